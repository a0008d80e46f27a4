/* SPDX-License-Identifier: MIT */
/*
 * account_test.cc: ten million datagrams of mixed sizes to mixed peers, and an account of each.
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
#include "tests/support/harness.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
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

namespace
{

using namespace harness;

/* What a sender does: runs of datagrams to one peer; one for each of several peers by turns; or
 * either, from a queue that is often full, on a socket that copies all payloads. */
enum Kind { RUNS, TURNS, NARROW, KINDS };

/* How a datagram is sent. ASK: with a callback. */
enum Way { PLAIN, ASK, MANY, MANY_ASK, DEST, DEST_ASK, BUFFER, WAYS };

bool asks(Way way)
{
    return way == ASK || way == MANY_ASK || way == DEST_ASK;
}

bool is_many(Way way)
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

uint64_t wanted_total()
{
    const char *text = getenv("DGRAM_ACCOUNT");
    return text != nullptr ? strtoull(text, nullptr, 10) : 10000000u;
}

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

/* What the receiver's buffer is charged for a datagram at most: up to 16 KiB the kernel allocates
 * powers of two, and its own structs besides. */
uint64_t charge_of(uint32_t size)
{
    return 2 * static_cast<uint64_t>(size) + 1200;
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

/* ---- Sending ------------------------------------------------------------------------------- */

void Account::bout()
{
    Bout bout = {};
    choose(&bout);
    bool goes_on = true;
    for (unsigned round = 0; goes_on && round < bout.rounds; round++) {
        goes_on = false;
        for (unsigned which = 0; which < bout.peers; which++) {
            goes_on |= send_one(bout, which);
        }
    }
    send_items(bout);
}

void Account::choose(Bout *bout)
{
    static const Way ways[] = {PLAIN, PLAIN, PLAIN, PLAIN,    ASK,      ASK,
                               MANY,  MANY,  DEST,  DEST_ASK, MANY_ASK, BUFFER};
    bout->from = &senders_[random_.below(families_ * KINDS)];
    bout->way = ways[random_.below(sizeof(ways) / sizeof(ways[0]))];
    bool turns = bout->from->kind == TURNS || (bout->from->kind == NARROW && random_.below(2));
    bout->peers = turns ? 2 + random_.below(PEERS - 1) : 1;
    bout->first = random_.below(PEERS);
    bout->rounds = 1 + random_.below(turns ? 48 : 160);
    if (bout->way == BUFFER) {
        auto idle = std::find_if(composed_.begin(), composed_.end(),
                                 [](const Composed &composed) { return !composed.busy; });
        bout->composed = idle != composed_.end() ? &*idle : nullptr;
        bout->way = bout->composed != nullptr ? BUFFER : PLAIN;
    }
    used_.fill(0);
}

/* False if this peer cannot be sent to now. */
bool Account::send_one(const Bout &bout, unsigned which)
{
    Draft one = {};
    if (bout.from->waits || over() || !draft(bout, which, &one)) {
        return false;
    }
    if (is_many(bout.way)) {
        drafts_.push_back(one);
        if (drafts_.size() == ITEMS) {
            send_items(bout);
        }
    } else {
        account_for(one, bout.way, send(one, bout));
    }
    return true;
}

/* The next datagram of a pair, unless its receiver has no credit left or there is no place for its
 * payload. */
bool Account::draft(const Bout &bout, unsigned which, Draft *draft)
{
    draft->from = bout.from;
    draft->peer = (bout.first + which) % PEERS;
    const unsigned index = pair_of(bout.from->index, draft->peer);
    Pair &pair = pairs_[index];
    Receiver &receiver = receiver_of(*draft);
    draft->before = pair.to_send;
    draft->size = pair.to_send.next();
    const uint64_t charge = charge_of(draft->size);
    if (sent_ == total_ || (receiver.out > 0 && receiver.out + charge > window_) ||
        !place(bout, which, draft)) {
        pair.to_send = draft->before;
        return false;
    }
    write(draft->data, index, pair.sent, draft->size);
    receiver.out += charge;
    pair.sent++;
    sent_++;
    return true;
}

/* Where the payload is composed: lent memory stays as it is until the callback; what is copied may
 * be overwritten after the call, and is. */
bool Account::place(const Bout &bout, unsigned which, Draft *draft)
{
    draft->copied = bout.way == MANY_ASK && sent_ % 2 == 0;
    const bool lent = asks(bout.way) && bout.from->kind != NARROW && !draft->copied;
    draft->data = lent ? nullptr : room_for(bout, which, draft->size);
    if (!lent && draft->data == nullptr) {
        return false;
    }
    if (asks(bout.way)) {
        const Tickets::Ticket *ticket =
            tickets_.take(bout.from->socket, draft->size, lent ? draft->size : 0);
        if (ticket == nullptr) {
            return false;
        }
        draft->user = Tickets::user(ticket);
        draft->data = lent ? tickets_.memory(ticket) : draft->data;
    }
    return true;
}

/* In a buffer each peer has a part, so that its datagrams lie one behind the other. */
unsigned char *Account::room_for(const Bout &bout, unsigned which, uint32_t size)
{
    const bool in_buffer = bout.way == BUFFER;
    auto *memory = in_buffer
                       ? static_cast<unsigned char *>(dgram_buffer_data(bout.composed->buffer))
                       : room_.data();
    const size_t part = in_buffer ? ROOM / bout.peers : ROOM;
    const unsigned number = in_buffer ? which : 0;
    const size_t used = used_[number];
    if (used + size > part) {
        return nullptr;
    }
    used_[number] += in_buffer || is_many(bout.way) ? size : 0;
    return memory + part * number + used;
}

void Account::write(unsigned char *data, unsigned pair, uint64_t number, uint32_t size) const
{
    memcpy(data, content(pair, number), size);
    if (size >= HEADER) {
        const uint64_t head = number << 8 | pair;
        memcpy(data, &head, sizeof(head));
    }
}

int Account::send(const Draft &draft, const Bout &bout)
{
    struct dgram_socket *socket = draft.from->socket;
    const Receiver &to = receiver_of(draft);
    if (bout.way == BUFFER) {
        const auto *memory = static_cast<unsigned char *>(dgram_buffer_data(bout.composed->buffer));
        const int code =
            dgram_send_buffer(socket, bout.composed->buffer,
                              static_cast<size_t>(draft.data - memory), draft.size, &to.at);
        bout.composed->busy |= code == 0;
        return code;
    }
    dgram_sent_fn *fn = asks(bout.way) ? on_sent : nullptr;
    return bout.way == DEST || bout.way == DEST_ASK
               ? dgram_send_dest(socket, draft.data, draft.size, to.destination, fn, draft.user)
               : dgram_send_to(socket, draft.data, draft.size, &to.at, fn, draft.user);
}

/* The drafts, if there are any, to addresses and destinations by turns. What is refused is
 * the end of them, so that none overtakes another. */
void Account::send_items(const Bout &bout)
{
    const size_t count = drafts_.size();
    if (count == 0) {
        return;
    }
    std::array<struct dgram_outgoing, ITEMS> items = {};
    for (size_t i = 0; i < count; i++) {
        const Draft &draft = drafts_[i];
        items[i].data = draft.data;
        items[i].size = draft.size;
        items[i].user = draft.user;
        items[i].flags = draft.copied ? DGRAM_COPY : 0;
        if (i % 3 == 0) {
            items[i].destination = receiver_of(draft).destination;
        } else {
            items[i].address = &receiver_of(draft).at;
        }
    }
    const int taken = dgram_send_many(bout.from->socket, items.data(), count,
                                      bout.way == MANY_ASK ? on_sent : nullptr, nullptr);
    ASSERT_GE(taken, 0) << dgram_error_name(taken);
    for (size_t i = count; i > 0; i--) { /* backwards: the last is taken back first */
        ASSERT_EQ(items[i - 1].status, i > static_cast<size_t>(taken) ? -EAGAIN : 0);
        account_for(drafts_[i - 1], bout.way, items[i - 1].status);
    }
    drafts_.clear();
}

/* After the call: the datagram is on its way, or was none. */
void Account::account_for(const Draft &draft, Way way, int code)
{
    if (code == 0) {
        draft.from->sent++;
        draft.from->bytes += draft.size;
        by_way_[way]++;
        return;
    }
    ASSERT_EQ(code, -EAGAIN) << dgram_error_name(code);
    Pair &pair = pairs_[pair_of(draft.from->index, draft.peer)];
    pair.to_send = draft.before;
    pair.sent--;
    sent_--;
    receiver_of(draft).out -= charge_of(draft.size);
    if (draft.user != nullptr) {
        tickets_.take_back();
    }
    draft.from->waits = true;
    refused_++;
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

} /* namespace */
