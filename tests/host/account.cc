/* SPDX-License-Identifier: MIT */
/*
 * account.cc: ten million datagrams of mixed sizes to mixed peers, and an account of each.
 *
 * They go by every way of sending: with a callback and without, lent, copied, from buffers, one by
 * one and many at once, in runs to one peer and to several by turns, IPv4 and IPv6. Every one has a
 * number of its pair of sockets, a size and a content that its receiver works out for itself.
 * Counted: each arrives once, whole and in the order of its pair; each callback comes once, with
 * the size of its own datagram; nothing else comes, no error, and no datagram later. A credit holds
 * the senders back, so nothing may be lost. The kernel is made to have no room now and then, so
 * datagrams are parked and refused. The counters tell whether trains were made and taken apart. The
 * process is watched: it may not grow.
 *
 * DGRAM_ACCOUNT in the environment is another number of datagrams (10,000,000).
 */
#include "tests/host/account.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace
{

/*
 * Loopback never lacks room for a datagram to send, whatever SO_SNDBUF is: it gives the memory back
 * before sendmsg(2) returns. So this program's own sendmmsg() and sendmsg() stand before the C
 * library's and find no room now and then: after half of a call's messages, and the call that
 * begins with the next one is refused; or in three of four calls for a while, so that much is
 * parked and what is tried again may be refused again.
 */
class Shortage
{
  public:
    /* How many of these messages there is room for. */
    unsigned room(unsigned count)
    {
        if (!on || full_) {
            full_ = false;
            return on ? 0 : count;
        }
        calls_++;
        if (calls_ % SPELLS < SPELL) {
            return calls_ % 4 == 0 ? count : 0;
        }
        full_ = calls_ % EVERY == 0 && count > 1;
        return full_ ? count / 2 : count;
    }

    bool on = false;

  private:
    static constexpr uint64_t EVERY = 128, SPELLS = 4096, SPELL = 64;

    uint64_t calls_ = SPELL;
    bool full_ = false;
};

Shortage shortage;

} /* namespace */

#ifdef SYS_sendmmsg
extern "C" int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    const unsigned taken = shortage.room(count);
    if (taken == 0) {
        errno = EAGAIN;
        return -1;
    }
    return static_cast<int>(syscall(SYS_sendmmsg, fd, messages, taken, flags));
}
#endif

#ifdef SYS_sendmsg
extern "C" ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    if (shortage.room(1) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return syscall(SYS_sendmsg, fd, message, flags);
}
constexpr bool ROOM_IS_SHORT = true;
#else
constexpr bool ROOM_IS_SHORT = false;
#endif

namespace account
{

namespace
{

/* From so many on, every way was gone often and every counter tells something. */
constexpr uint64_t ENOUGH = 150000;
/* Datagrams to a train of each socket, on an average. 9 to 13 were seen; if trains ended where
 * another peer comes, it would be 1 for those who send by turns. */
constexpr uint64_t TRAIN_LEAST = 4;

/* A build for POSIX alone makes no trains, whatever the kernel has. */
#ifdef DGRAM_TEST_LINUX_HOST
constexpr bool HOST_HAS_TRAINS = true;
#else
constexpr bool HOST_HAS_TRAINS = false;
#endif

#if defined(__SANITIZE_ADDRESS__)
constexpr bool SANITIZED = true;
#elif defined(__has_feature)
constexpr bool SANITIZED = __has_feature(address_sanitizer);
#else
constexpr bool SANITIZED = false;
#endif

/* KiB of memory that the process has in use: what the heap has and nobody uses is given back, or a
 * moment in which much was parked would look like a leak. */
long resident()
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
    std::ifstream file("/proc/self/statm");
    long total = 0, pages = 0;
    file >> total >> pages;
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

enum { SOL_UDP_ = 17, UDP_SEGMENT_ = 103, UDP_GRO_ = 104 }; /* udp(7) */

/* Asked without the library, which might say no by mistake. */
bool kernel_has(int option)
{
    const Plain plain;
    const int value = 1;
    return setsockopt(plain.fd(), SOL_UDP_, option, &value, sizeof(value)) == 0;
}

double ratio(uint64_t one, uint64_t two)
{
    return static_cast<double>(one) / static_cast<double>(std::max<uint64_t>(two, 1));
}

} /* namespace */

uint64_t wanted_total()
{
    const char *text = getenv("DGRAM_ACCOUNT");
    return text != nullptr ? strtoull(text, nullptr, 10) : 10000000u;
}

Account *Account::running;

INSTANTIATE_ON_HOST_ENGINES(Account);

/* ---- Sockets ------------------------------------------------------------------------------- */

void Account::TearDown()
{
    shortage.on = false;
    for (Receiver &receiver : receivers_) {
        dgram_destination_free(receiver.destination);
    }
    EngineTest::TearDown();
}

/* What the program itself needs: all of it is in use before the measuring begins. */
void Account::make_memory()
{
    unsigned char byte = 1;
    pattern_.reserve(PATTERN + SIZE_MOST);
    for (size_t i = 0; i < PATTERN + SIZE_MOST; i++) {
        byte = static_cast<unsigned char>(byte * 29 + i / 251 + 7);
        pattern_.push_back(byte);
    }
    room_.assign(ROOM, 0);
    drafts_.reserve(ITEMS);
    for (Composed &composed : composed_) {
        const struct dgram_buffer_options options = buffer_options(0, on_idle, &composed);
        ASSERT_EQ(dgram_buffer_create(loop, ROOM, &options, &composed.buffer), 0);
        memset(dgram_buffer_data(composed.buffer), 0xee, ROOM);
    }
    for (unsigned i = 0; i < PAIRS; i++) {
        pairs_[i].to_send = pairs_[i].to_come = Sizes(i + 1);
    }
}

void Account::open()
{
    families_ = static_cast<unsigned>(socket_types().size());
    for (unsigned i = 0; i < families_ * KINDS; i++) {
        open_sender(i);
    }
    for (unsigned i = 0; i < families_ * PEERS; i++) {
        open_receiver(i);
    }
}

void Account::open_sender(unsigned index)
{
    Sender &sender = senders_[index];
    const uint32_t type = socket_types()[index / KINDS];
    struct dgram_socket_options options = socket_options();
    sender.index = index;
    sender.kind = static_cast<Kind>(index % KINDS);
    if (sender.kind == NARROW) {
        options.flags = DGRAM_COPY;
        options.queue_limit = NARROW_QUEUE;
    }
    ASSERT_EQ(dgram_create_socket(loop, type, &options, &sender.socket), 0);
    ASSERT_EQ(dgram_bind(sender.socket, 0, loopback(type)), 0);
    ASSERT_EQ(dgram_on_error(sender.socket, on_error, &sender), 0);
    ASSERT_EQ(dgram_on_drain(sender.socket, on_drain, &sender), 0);
    sender.at = address_of(sender.socket);
}

void Account::open_receiver(unsigned index)
{
    Receiver &receiver = receivers_[index];
    const uint32_t type = socket_types()[index / PEERS];
    receiver.index = index;
    receiver.socket = open_bound(loop, type);
    ASSERT_NE(receiver.socket, nullptr);
    ASSERT_EQ(index % 2 == 0 ? dgram_on_message(receiver.socket, on_message, &receiver)
                             : dgram_on_messages(receiver.socket, on_messages, &receiver),
              0);
    ASSERT_EQ(dgram_on_error(receiver.socket, on_error, &receiver), 0);
    receiver.at = address_of(receiver.socket);
    ASSERT_EQ(dgram_destination_create(loop, type, dgram_addr_port(&receiver.at), loopback(type),
                                       &receiver.destination),
              0);
    /* Half: the kernel gives room back late, when a quarter has been read. */
    const int granted = dgram_get_recv_buffer_size(receiver.socket);
    window_ = std::min(window_, static_cast<uint64_t>(granted) / 2);
}

/* Where the kernel can, the library does. */
void Account::expect_trains()
{
    trains_ = HOST_HAS_TRAINS && kernel_has(UDP_SEGMENT_);
    joined_ = trains_ && kernel_has(UDP_GRO_);
    EXPECT_EQ(info_of(loop).segments_max >= 64, trains_);
}

/* ---- What comes ---------------------------------------------------------------------------- */

void Account::take(Receiver *receiver, const struct dgram_message *message)
{
    const unsigned first = receiver->index / PEERS * KINDS;
    unsigned sender = first;
    while (sender < first + KINDS && !dgram_addr_equal(message->from, &senders_[sender].at)) {
        sender++;
    }
    ASSERT_LT(sender, first + KINDS) << "from a stranger";
    const unsigned index = pair_of(sender, receiver->index % PEERS);
    Pair &pair = pairs_[index];
    ASSERT_LT(pair.come, pair.sent) << "more than was sent";
    const uint32_t size = pair.to_come.next();
    const auto *bytes = static_cast<const unsigned char *>(message->data);
    ASSERT_EQ(message->size, size) << "datagram " << pair.come << " of pair " << index;
    uint32_t from = 0;
    if (size >= HEADER) {
        uint64_t head = 0;
        memcpy(&head, bytes, sizeof(head));
        ASSERT_EQ(head >> 8, pair.come);
        ASSERT_EQ(head & 0xff, index);
        from = HEADER;
    }
    ASSERT_EQ(memcmp(bytes + from, content(index, pair.come) + from, size - from), 0);
    pair.come++;
    come_++;
    receiver->come++;
    receiver->bytes += size;
    receiver->out -= charge_of(size);
}

void Account::on_message(struct dgram_socket *, const struct dgram_message *message, void *user)
{
    auto *receiver = static_cast<Receiver *>(user);
    if (!over()) {
        running->take(receiver, message);
    }
}

void Account::on_messages(struct dgram_socket *socket, const struct dgram_message *messages,
                          size_t count, void *user)
{
    for (size_t i = 0; i < count; i++) {
        on_message(socket, &messages[i], user);
    }
}

void Account::on_sent(struct dgram_socket *socket, int result, void *user)
{
    if (!over()) {
        running->tickets_.call(socket, result, user);
    }
}

void Account::on_error(struct dgram_socket *, const struct dgram_error *error, void *)
{
    ADD_FAILURE() << error->operation << ": " << dgram_error_name(error->code);
}

void Account::on_drain(struct dgram_socket *, void *user)
{
    auto *sender = static_cast<Sender *>(user);
    EXPECT_TRUE(sender->waits) << "nothing was refused";
    sender->waits = false;
}

void Account::on_idle(struct dgram_buffer *buffer, void *user)
{
    auto *composed = static_cast<Composed *>(user);
    EXPECT_TRUE(composed->busy) << "idle already";
    EXPECT_FALSE(dgram_buffer_in_use(buffer));
    composed->busy = false;
}

/* ---- The account --------------------------------------------------------------------------- */

/* Ends when all is there, when something was wrong, or when nothing comes any more. */
void Account::run()
{
    const uint64_t limit = static_cast<uint64_t>(10 * SECOND) * patience();
    uint64_t events = 0, since = monotonic_ns();
    while ((come_ < total_ || tickets_.called() < tickets_.taken()) && !HasFailure()) {
        for (unsigned i = 0; i < BOUTS; i++) {
            bout();
        }
        ASSERT_GE(dgram_loop_turn(loop, SECOND), 0);
        if (early_ == 0 && come_ >= total_ / 2) {
            early_ = resident();
        }
        const uint64_t now = monotonic_ns(), so_far = sent_ + come_ + tickets_.called();
        if (so_far != events) {
            events = so_far;
            since = now;
        }
        ASSERT_LT(now - since, limit) << "lost: of " << sent_ << " sent came " << come_ << ", of "
                                      << tickets_.taken() << " callbacks " << tickets_.called();
    }
}

void Account::expect_sent(const Sender &sender)
{
    const struct dgram_socket_stats stats = stats_of(sender.socket);
    EXPECT_EQ(stats.sent, sender.sent);
    EXPECT_EQ(stats.sent_bytes, sender.bytes);
    EXPECT_EQ(stats.send_errors + stats.errors_lost + stats.trains_refused, 0u);
    EXPECT_EQ(dgram_get_send_queue_count(sender.socket), 0u);
    EXPECT_EQ(dgram_get_send_queue_size(sender.socket), 0u);
    EXPECT_FALSE(sender.waits) << "no `drain` came";
    EXPECT_LE(stats.sends, stats.sent);
    if (trains_ && total_ >= ENOUGH) {
        EXPECT_LT(stats.sends * TRAIN_LEAST, stats.sent);
    }
    sends_ += stats.sends;
    parked_ += stats.parked;
}

void Account::expect_come(const Receiver &receiver)
{
    const struct dgram_socket_stats stats = stats_of(receiver.socket);
    EXPECT_EQ(stats.received, receiver.come);
    EXPECT_EQ(stats.received_bytes, receiver.bytes);
    EXPECT_EQ(stats.truncated + stats.discarded + stats.errors_lost, 0u);
    EXPECT_EQ(receiver.out, 0u);
    EXPECT_LE(stats.receives, stats.received);
    if (joined_ && total_ >= ENOUGH) {
        EXPECT_LT(stats.receives * TRAIN_LEAST, stats.received);
    }
    receives_ += stats.receives;
}

void Account::expect_account()
{
    EXPECT_EQ(come_, total_);
    EXPECT_EQ(tickets_.called(), tickets_.taken());
    for (unsigned i = 0; i < families_ * KINDS; i++) {
        SCOPED_TRACE("sender " + std::to_string(i));
        expect_sent(senders_[i]);
    }
    for (unsigned i = 0; i < families_ * PEERS; i++) {
        SCOPED_TRACE("receiver " + std::to_string(i));
        expect_come(receivers_[i]);
    }
    for (const Composed &composed : composed_) {
        EXPECT_FALSE(composed.busy) << "not idle";
    }
    if (total_ >= ENOUGH) {
        EXPECT_EQ(std::count(by_way_.begin(), by_way_.end(), 0u), 0);
        EXPECT_GT(refused_, 0u);
        EXPECT_TRUE(parked_ > 0 || !ROOM_IS_SHORT);
    }
}

void Account::expect_memory(long before, long after) const
{
    printf("%llu datagrams, %.1f a send, %.1f a receive; %llu parked, %llu refused; KiB over the "
           "empty program: %ld early, %ld at the end\n",
           static_cast<unsigned long long>(total_), ratio(total_, sends_), ratio(total_, receives_),
           static_cast<unsigned long long>(parked_), static_cast<unsigned long long>(refused_),
           early_ - before, after - before);
    if (!SANITIZED) {
        EXPECT_LE(after - before, 8 * 1024);
        /* Receive slots come into use one by one, in a small run until its end. */
        EXPECT_LE(after - early_, total_ < 1000000 ? 1024 : 256) << "it grows";
    }
}

TEST_P(Account, EveryDatagramIsAccountedFor)
{
    running = this;
    ASSERT_NO_FATAL_FAILURE(make_memory());
    const long before = resident();
    ASSERT_NO_FATAL_FAILURE(open());
    expect_trains();
    shortage.on = true;
    run();
    shortage.on = false;
    if (HasFailure()) {
        return;
    }
    const long after = resident();
    settle(loop); /* has all that comes too late, or twice, come */
    expect_account();
    expect_memory(before, after);
}

} /* namespace account */
