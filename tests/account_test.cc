/* SPDX-License-Identifier: MIT */
/*
 * account_test.cc: ten million datagrams of mixed sizes to mixed peers, and an account of each.
 *
 * Every one has a number of its pair of sockets, a size and a content that its receiver works out
 * for itself, and a callback. Counted: each arrives once, whole and in the order of its pair; each
 * callback comes once, with the size. A window holds the senders back, so nothing may be lost. The
 * process is watched: it may not grow.
 *
 * DGRAM_ACCOUNT in the environment is another number of datagrams (10,000,000).
 */
#include "tests/harness.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>

namespace
{

using namespace harness;

constexpr unsigned SENDERS = 4, RECEIVERS = 16, PAIRS = SENDERS * RECEIVERS;
constexpr uint32_t HEADER = 8; /* the pair and the number; shorter datagrams carry neither */
constexpr uint32_t SIZE_MOST = 9000;
constexpr size_t PATTERN = 65536;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool SANITIZED = true;
#elif defined(__has_feature)
constexpr bool SANITIZED = __has_feature(address_sanitizer);
#else
constexpr bool SANITIZED = false;
#endif

uint64_t wanted_total()
{
    const char *text = getenv("DGRAM_ACCOUNT");
    return text != nullptr ? strtoull(text, nullptr, 10) : 10000000u;
}

/* KiB of memory that the process has in use. */
long resident()
{
    std::ifstream file("/proc/self/statm");
    long total = 0, pages = 0;
    file >> total >> pages;
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* The sizes of a pair's datagrams, the same for its sender and its receiver: runs of one size, as
 * trains like them, and everything else: short ones at the end of a run, empty ones, large ones. */
class Sizes
{
  public:
    explicit Sizes(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1)
    {
    }

    uint32_t next()
    {
        if (run_ == 0) {
            uint64_t r = random();
            run_ = 1 + static_cast<uint32_t>(r % 8 == 0 ? r >> 8 & 127 : r >> 8 & 3);
            switch (r >> 16 & 15) {
            case 0:
                size_ = 0;
                run_ = 1;
                break;
            case 1:
                size_ = 1 + static_cast<uint32_t>(r >> 32) % SIZE_MOST;
                break;
            case 2:
                size_ = static_cast<uint32_t>(r >> 32) % 8;
                break;
            default:
                size_ = 16 + static_cast<uint32_t>(r >> 32) % 1456;
            }
        }
        run_--;
        return size_;
    }

  private:
    uint64_t random()
    {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }

    uint64_t state_;
    uint32_t run_ = 0, size_ = 0;
};

class Account : public EngineTest
{
  public:
    struct Pair {
        Sizes to_send{0}, to_come{0};
        uint64_t sent = 0, come = 0;
    };
    struct Receiver {
        Account *account;
        unsigned index;
    };

    void make_pattern()
    {
        unsigned char byte = 1;
        pattern_.reserve(PATTERN + SIZE_MOST);
        for (size_t i = 0; i < PATTERN + SIZE_MOST; i++) {
            byte = static_cast<unsigned char>(byte * 29 + i / 251 + 7);
            pattern_.push_back(byte);
        }
    }
    void open()
    {
        for (unsigned i = 0; i < PAIRS; i++) {
            pairs_[i].to_send = pairs_[i].to_come = Sizes(i + 1);
        }
        for (unsigned i = 0; i < SENDERS; i++) {
            senders_[i] = open_bound(loop, DGRAM_UDP4, DGRAM_COPY); /* one buffer serves all */
            sender_at_[i] = address_of(senders_[i]);
        }
        for (unsigned i = 0; i < RECEIVERS; i++) {
            open_receiver(i);
        }
    }

    /* Turns between its datagrams, and the peers in an order that changes. */
    void send_some()
    {
        for (unsigned i = 0; i < 256 && sent_ < total_; i++) {
            turn_ = turn_ * 1103515245u + 12345u;
            unsigned pair = (turn_ >> 16) % PAIRS, left = 1 + (turn_ >> 24) % 40;
            while (left-- > 0 && sent_ < total_ && bytes_out_[pair % RECEIVERS] < window_ &&
                   send_one(pair)) {
            }
        }
    }
    bool done() const
    {
        return come_ == total_ && called_ == total_;
    }

    std::vector<unsigned char> pattern_;
    std::vector<unsigned char> calls_;
    uint64_t total_ = wanted_total();
    uint64_t sent_ = 0, come_ = 0, called_ = 0;

  private:
    struct Call {
        Account *account;
        uint32_t size;
    };

    void open_receiver(unsigned index)
    {
        receivers_[index] = open_socket(loop);
        hooks_[index] = {this, index};
        ASSERT_EQ(dgram_on_message(receivers_[index], on_message, &hooks_[index]), 0);
        ASSERT_EQ(dgram_bind(receivers_[index], 0, "127.0.0.1"), 0);
        receiver_at_[index] = address_of(receivers_[index]);
        int granted = dgram_get_recv_buffer_size(receivers_[index]);
        /* A datagram is charged some 0.8 to 2.3 KiB more than its size. */
        window_ = std::min(window_, static_cast<uint64_t>(granted) / 2);
    }

    bool send_one(unsigned pair)
    {
        Pair *p = &pairs_[pair];
        Pair before = *p;
        const unsigned receiver = pair % RECEIVERS;
        uint32_t size = p->to_send.next();
        fill(pair, p->sent, size);
        int code =
            dgram_send_to(senders_[pair / RECEIVERS], room_.data(), size, &receiver_at_[receiver],
                          on_sent, reinterpret_cast<void *>(static_cast<uintptr_t>(sent_ + 1)));
        if (code == -EAGAIN) {
            *p = before;
            return false;
        }
        EXPECT_EQ(code, 0) << dgram_error_name(code);
        p->sent++;
        sent_++;
        bytes_out_[receiver] += size + 2400;
        return code == 0;
    }

    void fill(unsigned pair, uint64_t number, uint32_t size)
    {
        memcpy(room_.data(), content(pair, number), size);
        if (size >= HEADER) {
            uint64_t head = number << 8 | pair;
            memcpy(room_.data(), &head, sizeof(head));
        }
    }
    const unsigned char *content(unsigned pair, uint64_t number) const
    {
        return &pattern_[(number * 61 + pair * 1021) % PATTERN];
    }

    void take(unsigned receiver, const struct dgram_message *message)
    {
        unsigned sender = 0;
        while (sender < SENDERS && !dgram_addr_equal(message->from, &sender_at_[sender])) {
            sender++;
        }
        ASSERT_LT(sender, SENDERS);
        unsigned pair = sender * RECEIVERS + receiver;
        Pair *p = &pairs_[pair];
        uint32_t size = p->to_come.next();
        const auto *bytes = static_cast<const unsigned char *>(message->data);
        ASSERT_EQ(message->size, size) << "datagram " << p->come << " of pair " << pair;
        if (size >= HEADER) {
            uint64_t head = 0;
            memcpy(&head, bytes, sizeof(head));
            ASSERT_EQ(head, p->come << 8 | pair);
        }
        uint32_t from = size >= HEADER ? HEADER : 0;
        ASSERT_EQ(memcmp(bytes + from, content(pair, p->come) + from, size - from), 0);
        p->come++;
        come_++;
        bytes_out_[receiver] -= size + 2400;
    }

    static void on_message(struct dgram_socket *, const struct dgram_message *message, void *user)
    {
        auto *hook = static_cast<Receiver *>(user);
        if (!HasFatalFailure()) {
            hook->account->take(hook->index, message);
        }
    }
    static void on_sent(struct dgram_socket *, int result, void *user)
    {
        const uint64_t number = reinterpret_cast<uintptr_t>(user) - 1;
        Account *self = running;
        ASSERT_GE(result, 0) << dgram_error_name(result);
        ASSERT_EQ(self->calls_[number], 0) << "called twice";
        self->calls_[number] = 1;
        self->called_++;
    }

  protected:
    static Account *running;

  private:
    std::array<Pair, PAIRS> pairs_;
    std::array<struct dgram_socket *, SENDERS> senders_ = {};
    std::array<struct dgram_socket *, RECEIVERS> receivers_ = {};
    std::array<struct dgram_addr, SENDERS> sender_at_ = {};
    std::array<struct dgram_addr, RECEIVERS> receiver_at_ = {};
    std::array<Receiver, RECEIVERS> hooks_ = {};
    std::array<uint64_t, RECEIVERS> bytes_out_ = {};
    std::array<unsigned char, SIZE_MOST> room_ = {};
    uint64_t window_ = UINT64_MAX;
    unsigned turn_ = 1;
};

Account *Account::running;

INSTANTIATE_ON_HOST_ENGINES(Account);

TEST_P(Account, EveryDatagramIsAccountedFor)
{
    running = this;
    calls_.assign(total_, 0);
    make_pattern();
    long before = resident(), early = 0;
    open();
    while (!done() && !HasFailure()) {
        send_some();
        ASSERT_GE(dgram_loop_turn(loop, SECOND), 0);
        if (early == 0 && come_ > total_ / 50) {
            early = resident();
        }
    }
    long after = resident();
    EXPECT_EQ(come_, total_);
    EXPECT_EQ(called_, total_);
    EXPECT_EQ(std::count(calls_.begin(), calls_.end(), 1), static_cast<long>(total_));
    printf("%llu datagrams; KiB over the empty program: %ld early, %ld at the end\n",
           static_cast<unsigned long long>(total_), early - before, after - before);
    if (!SANITIZED) {
        EXPECT_LE(after - early, 512) << "it grows";
        EXPECT_LE(after - before, 8 * 1024);
    }
}

} /* namespace */
