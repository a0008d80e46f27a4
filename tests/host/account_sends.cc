/* SPDX-License-Identifier: MIT */
/*
 * account_sends.cc: how the senders of the account send: a bout is a run of datagrams in one way,
 * each of which is noted before it goes.
 */
#include <algorithm>
#include <cstring>

#include <array>

#include "tests/host/account.h"

namespace account
{

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

} /* namespace account */
