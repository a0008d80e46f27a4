/* SPDX-License-Identifier: MIT */
/*
 * account.h: the account of ten million datagrams: who sends what to whom, in which way, and what
 * came of it.
 *
 * Each pair of sockets has its own row of sizes, which its sender and its receiver both work out.
 */
#ifndef DGRAM_TESTS_HOST_ACCOUNT_H
#define DGRAM_TESTS_HOST_ACCOUNT_H

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tests/support/harness.h"

namespace account
{

using namespace harness;

/* What a sender does: runs of datagrams to one peer; one for each of several peers by turns; or
 * either, from a queue that is often full, on a socket that copies all payloads. */
enum Kind { RUNS, TURNS, NARROW, KINDS };

/* How a datagram is sent. ASK: with a callback. */
enum Way { PLAIN, ASK, MANY, MANY_ASK, DEST, DEST_ASK, BUFFER, WAYS };

inline bool asks(Way way)
{
    return way == ASK || way == MANY_ASK || way == DEST_ASK;
}

inline bool is_many(Way way)
{
    return way == MANY || way == MANY_ASK;
}

constexpr unsigned FAMILIES = 2, PEERS = 8;
constexpr unsigned SENDERS = KINDS * FAMILIES, RECEIVERS = PEERS * FAMILIES;
constexpr unsigned PAIRS = SENDERS * PEERS;
constexpr unsigned BUFFERS = 4, ITEMS = 64, BOUTS = 16;
constexpr uint32_t HEADER = 8; /* the pair and the number; shorter datagrams carry neither */
constexpr uint32_t SIZE_MOST = 60000;
constexpr size_t PATTERN = 65536;
constexpr size_t ROOM = 4 * 65536; /* for the payloads of one bout */
constexpr uint64_t NARROW_QUEUE = 256 * 1024;

/* What the receiver's buffer is charged for a datagram at most: up to 16 KiB the kernel allocates
 * powers of two, and its own structs besides. */
inline uint64_t charge_of(uint32_t size)
{
    return 2 * static_cast<uint64_t>(size) + 1200;
}

class Random
{
  public:
    explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1)
    {
    }
    uint64_t next()
    {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }
    unsigned below(unsigned limit)
    {
        return static_cast<unsigned>(next() >> 20) % limit;
    }

  private:
    uint64_t state_;
};

/* The sizes of a pair's datagrams, the same for its sender and its receiver: runs of one size, as
 * trains like them, and everything else: short ones at the end of a run, empty ones, large ones. */
class Sizes
{
  public:
    explicit Sizes(uint64_t seed) : random_(seed)
    {
    }

    uint32_t next()
    {
        if (left_ == 0) {
            begin_run();
        }
        left_--;
        return size_;
    }

  private:
    void begin_run()
    {
        const unsigned kind = random_.below(64);
        left_ = 1 + random_.below(random_.below(2) == 0 ? 4 : 64);
        if (kind < 3) {
            size_ = 0;
            left_ = 1;
        } else if (kind < 6) {
            size_ = 1 + random_.below(16);
        } else if (kind < 9) {
            size_ = 1400 + random_.below(8000);
            left_ = 1 + left_ % 8;
        } else if (kind == 9) {
            size_ = 1 + random_.below(SIZE_MOST);
            left_ = 1;
        } else {
            size_ = 16 + random_.below(1385);
        }
    }

    Random random_;
    uint32_t left_ = 0, size_ = 0;
};

/* The callbacks that are awaited, by their numbers, and the memory that is lent until they come. A
 * ring of each: what is oldest ends first, or holds up the others. */
class Tickets
{
  public:
    struct Ticket {
        uint64_t number = UINT64_MAX;
        struct dgram_socket *socket = nullptr;
        uint32_t size = 0;
        bool awaited = false;
        uint32_t lent = 0; /* bytes of memory */
        uint64_t at = 0;   /* where they are, counted on from round to round */
        uint64_t before = 0;
    };

    /* NULL if too many are awaited. */
    Ticket *take(struct dgram_socket *socket, uint32_t size, uint32_t lent)
    {
        while (oldest_ < next_ && !tickets_[oldest_ % COUNT].awaited) {
            oldest_++;
        }
        uint64_t at = top_;
        if (at % BYTES + lent > BYTES) {
            at += BYTES - at % BYTES;
        }
        const uint64_t bottom = oldest_ < next_ ? tickets_[oldest_ % COUNT].before : top_;
        if (next_ - oldest_ == COUNT || at + lent - bottom > BYTES) {
            return nullptr;
        }
        Ticket *ticket = &tickets_[next_ % COUNT];
        *ticket = {next_++, socket, size, true, lent, at, top_};
        top_ = at + lent;
        return ticket;
    }
    /* The last one: its datagram was refused. */
    void take_back()
    {
        Ticket *ticket = &tickets_[--next_ % COUNT];
        ticket->awaited = false;
        top_ = ticket->before;
    }
    unsigned char *memory(const Ticket *ticket)
    {
        return &memory_[ticket->at % BYTES];
    }

    /* Not the ticket but its number: a second call would find the ticket of another datagram. */
    static void *user(const Ticket *ticket)
    {
        return reinterpret_cast<void *>(static_cast<uintptr_t>(ticket->number + 1));
    }
    void call(struct dgram_socket *socket, int result, void *user)
    {
        const uint64_t number = reinterpret_cast<uintptr_t>(user) - 1;
        Ticket *ticket = &tickets_[number % COUNT];
        ASSERT_EQ(ticket->number, number) << "called twice, or never asked for";
        ASSERT_TRUE(ticket->awaited) << "called twice";
        ASSERT_EQ(result, static_cast<int>(ticket->size)) << dgram_error_name(result);
        ASSERT_EQ(socket, ticket->socket);
        ticket->awaited = false;
        called_++;
        memset(memory(ticket), 0xee, ticket->lent); /* nobody reads it any more */
    }

    uint64_t taken() const
    {
        return next_;
    }
    uint64_t called() const
    {
        return called_;
    }

  private:
    static constexpr size_t COUNT = 8192, BYTES = 2 << 20;

    std::vector<Ticket> tickets_ = std::vector<Ticket>(COUNT);
    std::vector<unsigned char> memory_ = std::vector<unsigned char>(BYTES);
    uint64_t next_ = 0, oldest_ = 0, called_ = 0, top_ = 0;
};

/* Datagrams, from the environment. */
uint64_t wanted_total();

class Account : public EngineTest
{
  protected:
    struct Sender {
        Kind kind;
        unsigned index;
        struct dgram_socket *socket;
        struct dgram_addr at;
        uint64_t sent, bytes;
        bool waits; /* for `drain` */
    };
    struct Receiver {
        unsigned index;
        struct dgram_socket *socket;
        struct dgram_addr at;
        struct dgram_destination *destination;
        uint64_t out; /* charged for what is on its way */
        uint64_t come, bytes;
    };
    struct Pair {
        Sizes to_send{0}, to_come{0};
        uint64_t sent = 0, come = 0;
    };
    struct Composed {
        struct dgram_buffer *buffer;
        bool busy; /* until `idle` */
    };
    /* A datagram that is about to be sent. */
    struct Draft {
        Sender *from;
        unsigned peer;
        uint32_t size;
        bool copied; /* by an item's flag */
        Sizes before{0};
        unsigned char *data;
        void *user; /* NULL: without a callback */
    };
    /* One datagram after the other by one way. */
    struct Bout {
        Sender *from;
        Way way;
        unsigned peers, first, rounds;
        Composed *composed;
    };

    void TearDown() override;
    void make_memory();
    void open();
    void run();
    void expect_trains();
    void expect_account();
    void expect_memory(long before, long after) const;

    static Account *running;

  private:
    void open_sender(unsigned index);
    void open_receiver(unsigned index);

    void bout();
    void choose(Bout *bout);
    bool send_one(const Bout &bout, unsigned which);
    bool draft(const Bout &bout, unsigned which, Draft *draft);
    bool place(const Bout &bout, unsigned which, Draft *draft);
    unsigned char *room_for(const Bout &bout, unsigned which, uint32_t size);
    int send(const Draft &draft, const Bout &bout);
    void send_items(const Bout &bout);
    void account_for(const Draft &draft, Way way, int code);
    void take(Receiver *receiver, const struct dgram_message *message);
    void expect_sent(const Sender &sender);
    void expect_come(const Receiver &receiver);

    unsigned pair_of(unsigned sender, unsigned receiver) const
    {
        return sender * PEERS + receiver % PEERS;
    }
    Receiver &receiver_of(const Draft &draft)
    {
        return receivers_[draft.from->index / KINDS * PEERS + draft.peer];
    }
    const unsigned char *content(unsigned pair, uint64_t number) const
    {
        return &pattern_[(number * 61 + pair * 1021) % PATTERN];
    }
    void write(unsigned char *data, unsigned pair, uint64_t number, uint32_t size) const;

    /* Nothing is right any more; once would have been enough to tell. */
    static bool over()
    {
        return muted() || HasFatalFailure();
    }
    static void on_message(struct dgram_socket *, const struct dgram_message *, void *user);
    static void on_messages(struct dgram_socket *, const struct dgram_message *, size_t, void *);
    static void on_sent(struct dgram_socket *socket, int result, void *user);
    static void on_error(struct dgram_socket *, const struct dgram_error *error, void *user);
    static void on_drain(struct dgram_socket *, void *user);
    static void on_idle(struct dgram_buffer *buffer, void *user);

    uint64_t total_ = wanted_total(), sent_ = 0, come_ = 0;
    uint64_t refused_ = 0, parked_ = 0, sends_ = 0, receives_ = 0;
    long early_ = 0; /* KiB in use when half had come */
    unsigned families_ = 0;
    bool trains_ = false, joined_ = false; /* the kernel sends trains, and receives them */
    std::array<Sender, SENDERS> senders_ = {};
    std::array<Receiver, RECEIVERS> receivers_ = {};
    std::array<Composed, BUFFERS> composed_ = {};
    std::array<uint64_t, WAYS> by_way_ = {};
    Tickets tickets_;
    std::array<Pair, PAIRS> pairs_;
    std::vector<unsigned char> pattern_, room_;
    std::vector<Draft> drafts_; /* of one dgram_send_many() */
    std::array<size_t, PEERS> used_ = {};
    uint64_t window_ = UINT64_MAX;
    Random random_{99};
};

} /* namespace account */

#endif
