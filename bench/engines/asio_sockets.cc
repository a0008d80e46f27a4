/* SPDX-License-Identifier: MIT */
/*
 * asio_sockets.cc: standalone asio, used as its own manual advises for one thread.
 *
 * Owns the context, the sockets and the payloads under way. Never locks, and allocates nothing for
 * a datagram: each payload brings the memory of its operation.
 */
#include "bench/engines/asio_sockets.h"

#include <asio/buffer.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/udp.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

using asio::ip::udp;

namespace
{

constexpr size_t kReceiveRoom = 65536;
constexpr size_t kSlotsMost = 2048; /* sends under way, within these bytes */
constexpr size_t kSlotBytes = 64u << 20;
constexpr int kHandlersMost = 1024; /* a turn, so that it ends */
constexpr int kReceivesMost = 64;   /* of one socket, before the others get their turn */
constexpr size_t kOperationBytes = 256;

int code_of(const asio::error_code &error)
{
    return error ? -error.value() : 0;
}

udp::endpoint endpoint_of(const sockaddr *address, size_t size)
{
    udp::endpoint endpoint;
    endpoint.resize(size); /* first: it tells the family's room */
    memcpy(endpoint.data(), address, size);
    return endpoint;
}

/* One send under way. */
struct Slot {
    asio_group *group;
    std::unique_ptr<uint8_t[]> bytes;
    alignas(std::max_align_t) unsigned char operation[kOperationBytes];
};

/* Gives asio the slot's memory if that is enough, else memory of the heap. */
template <typename T> struct SlotAllocator {
    using value_type = T;
    Slot *slot;

    explicit SlotAllocator(Slot *the_slot) : slot(the_slot)
    {
    }
    template <typename Other> SlotAllocator(const SlotAllocator<Other> &other) : slot(other.slot)
    {
    }
    T *allocate(size_t count)
    {
        size_t size = sizeof(T) * count;
        return static_cast<T *>(size <= kOperationBytes ? slot->operation : ::operator new(size));
    }
    void deallocate(T *place, size_t)
    {
        if (static_cast<void *>(place) != slot->operation) {
            ::operator delete(place);
        }
    }
    bool operator==(const SlotAllocator &other) const
    {
        return slot == other.slot;
    }
    bool operator!=(const SlotAllocator &other) const
    {
        return slot != other.slot;
    }
};

struct Sent {
    Slot *slot;
    using allocator_type = SlotAllocator<void>;

    allocator_type get_allocator() const noexcept
    {
        return allocator_type(slot);
    }
    void operator()(const asio::error_code &error, size_t) const;
};

struct Socket {
    udp::socket handle;
    udp::endpoint from;
    std::vector<uint8_t> received;

    explicit Socket(asio::io_context &context) : handle(context)
    {
    }
};

} // namespace

struct asio_group {
    asio_setup setup;
    asio::io_context context{ASIO_CONCURRENCY_HINT_UNSAFE};
    asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
    std::vector<Slot> slots; /* before the sockets, whose operations use their memory */
    std::vector<Slot *> free_slots;
    std::vector<std::unique_ptr<Socket>> sockets;
    int failure = 0;

    explicit asio_group(const asio_setup &the_setup) : setup(the_setup)
    {
    }
    void fail(const asio::error_code &error);
    void make_slots();
    asio::error_code open_socket();
    void receive(uint32_t index);
    void receive_async(uint32_t index);
    void receive_when_ready(uint32_t index);
    void take(uint32_t index, size_t size);
};

/* ---- Receiving ----------------------------------------------------------------------------- */

void asio_group::fail(const asio::error_code &error)
{
    if (failure == 0 && error != asio::error::operation_aborted) {
        failure = code_of(error);
    }
}

void asio_group::take(uint32_t index, size_t size)
{
    Socket &socket = *sockets[index];
    setup.take(setup.user, index, socket.from.data(), socket.from.size(), socket.received.data(),
               size);
}

void asio_group::receive_async(uint32_t index)
{
    Socket &socket = *sockets[index];
    socket.handle.async_receive_from(asio::buffer(socket.received), socket.from,
                                     [this, index](const asio::error_code &error, size_t size) {
                                         if (error) {
                                             fail(error);
                                             return;
                                         }
                                         take(index, size);
                                         receive_async(index);
                                     });
}

void asio_group::receive_when_ready(uint32_t index)
{
    Socket &socket = *sockets[index];
    socket.handle.async_wait(udp::socket::wait_read, [this, index](asio::error_code error) {
        Socket &ready = *sockets[index];
        for (int i = 0; i < kReceivesMost && !error; i++) {
            size_t size =
                ready.handle.receive_from(asio::buffer(ready.received), ready.from, 0, error);
            if (!error) {
                take(index, size);
            }
        }
        if (error && error != asio::error::would_block) {
            fail(error);
            return;
        }
        receive_when_ready(index);
    });
}

void asio_group::receive(uint32_t index)
{
    if (setup.async_receive) {
        receive_async(index);
    } else {
        receive_when_ready(index);
    }
}

/* ---- Open and close ------------------------------------------------------------------------ */

void asio_group::make_slots()
{
    size_t fit = kSlotBytes / (setup.payload + sizeof(Slot));
    size_t count = !setup.async_send ? 1 : fit < kSlotsMost ? fit : kSlotsMost;

    slots = std::vector<Slot>(count);
    free_slots.reserve(count);
    for (Slot &slot : slots) {
        slot.group = this;
        slot.bytes = std::make_unique<uint8_t[]>(setup.payload);
        free_slots.push_back(&slot);
    }
}

asio::error_code asio_group::open_socket()
{
    udp::endpoint own = endpoint_of(setup.bind_to, setup.bind_size);
    auto socket = std::make_unique<Socket>(context);
    asio::error_code error;

    socket->handle.open(own.protocol(), error);
    if (!error) {
        socket->handle.bind(own, error);
    }
    if (!error) {
        socket->handle.non_blocking(true, error);
    }
    if (!error) {
        asio::error_code ignored; /* granted as far as allowed */
        socket->handle.set_option(udp::socket::receive_buffer_size((int) setup.receive_buffer),
                                  ignored);
        socket->received.resize(setup.take ? kReceiveRoom : 0);
        sockets.push_back(std::move(socket));
    }
    return error;
}

/* Nothing may be thrown into C. */
template <typename Do> static int guarded(Do what)
{
    try {
        return what();
    } catch (const std::bad_alloc &) {
        return -ENOMEM;
    } catch (const std::system_error &error) {
        return error.code().value() > 0 ? -error.code().value() : -EIO;
    }
}

int asio_group_open(const asio_setup *setup, asio_group **ret_group)
{
    return guarded([&] {
        auto group = std::make_unique<asio_group>(*setup);
        asio::error_code error;

        group->make_slots();
        for (uint32_t i = 0; i < setup->sockets && !error; i++) {
            error = group->open_socket();
        }
        for (uint32_t i = 0; i < group->sockets.size() && setup->take; i++) {
            group->receive(i);
        }
        if (!error) {
            *ret_group = group.release();
        }
        return code_of(error);
    });
}

void asio_group_close(asio_group *group)
{
    delete group;
}

int asio_group_name(asio_group *group, uint32_t socket, sockaddr *name, size_t *size,
                    uint32_t *ret_granted)
{
    asio::error_code error;
    udp::socket &handle = group->sockets[socket]->handle;
    udp::endpoint own = handle.local_endpoint(error);
    int granted = 0;
    socklen_t granted_size = sizeof(granted);

    if (error || own.size() > *size) {
        return error ? code_of(error) : -EINVAL;
    }
    memcpy(name, own.data(), own.size());
    *size = own.size();
    /* Asks Linux itself: asio halves the answer. Linux charges its bookkeeping to the buffer,
     * too. */
    getsockopt(handle.native_handle(), SOL_SOCKET, SO_RCVBUF, &granted, &granted_size);
    *ret_granted = (uint32_t) granted;
    return 0;
}

/* ---- Sending ------------------------------------------------------------------------------- */

void Sent::operator()(const asio::error_code &error, size_t) const
{
    slot->group->free_slots.push_back(slot);
    if (error) {
        slot->group->fail(error);
    }
}

void *asio_group_payload(asio_group *group)
{
    return group->free_slots.empty() ? nullptr : group->free_slots.back()->bytes.get();
}

int asio_group_send(asio_group *group, const sockaddr *to, size_t to_size, size_t size)
{
    udp::socket &socket = group->sockets[0]->handle;
    Slot *slot = group->free_slots.back();
    auto buffer = asio::buffer(slot->bytes.get(), size);

    if (!group->setup.async_send) {
        asio::error_code error;
        socket.send_to(buffer, endpoint_of(to, to_size), 0, error);
        return error == asio::error::would_block ? -EAGAIN : code_of(error);
    }
    return guarded([&] {
        group->free_slots.pop_back();
        socket.async_send_to(buffer, endpoint_of(to, to_size), Sent{slot});
        return 0;
    });
}

uint32_t asio_group_pending(const asio_group *group)
{
    return (uint32_t) (group->slots.size() - group->free_slots.size());
}

int asio_group_turn(asio_group *group, int wait_ms)
{
    return guarded([&] {
        size_t ran = 1;

        if (wait_ms > 0) {
            ran = group->context.run_one_for(std::chrono::milliseconds(wait_ms));
        }
        for (int i = 0; i < kHandlersMost && ran > 0; i++) {
            ran = group->context.poll_one();
        }
        return group->failure;
    });
}
