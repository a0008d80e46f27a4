/* SPDX-License-Identifier: MIT */
/*
 * train.c: the trains that the core handed over, and their results.
 *
 * Owns the list from send() until the flush() or wait() that answers it. Never sends: send.c does.
 */
#include "uring/train.h"

void dg_ring_send(struct engine *engine, struct train *const *trains, size_t count)
{
    assert(engine->send_count == 0);
    engine->sends = trains;
    engine->send_count = (uint32_t) count;
}

void dg_ring_train_failed(struct engine *engine, uint64_t user_data, int result)
{
    uint32_t index = (uint32_t) user_data;
    assert(result < 0 && index < engine->send_count);
    assert(user_data == ring_user_data(OPERATION_SEND, engine->send_generation, index));
    /* The core tries an EAGAIN again. A system call that was interrupted is repeated by send.c. */
    engine->sends[index]->result = result == -EINTR ? -EAGAIN : result;
}

void dg_ring_trains_answer(struct engine *engine, int code)
{
    for (uint32_t i = 0; code < 0 && i < engine->send_count; i++) {
        engine->sends[i]->result = code;
    }
    engine->sends = NULL;
    engine->send_count = 0;
    engine->send_refused = false;
}
