/* SPDX-License-Identifier: MIT */
/*
 * lend.c: trains that are sent from where they lie: registered memory, and SQEs that read it in
 * place.
 *
 * Owns the table of registered memory. Never submits: send.c decides when, and brings the SQE.
 *
 * SENDMSG_ZC with a fixed buffer (6.15): the pages of the region go to the network card as they
 * are. It has two CQEs. The first is the result, within the submission as for every other send. The
 * second is a notification that the memory is free again, and tells whether the kernel copied after
 * all. The result's F_MORE says whether the second one comes. A failed send may have one, too: 6.1
 * refuses the fixed buffer with EINVAL, and a notification follows all the same.
 * (tests/host/kernel*.cc pins this.)
 */
#include "uring/lend.h"

/* liburing 2.3 has not all of these names. */
enum {
    FIXED_BUFFER = 1 << 2, /* IORING_RECVSEND_FIXED_BUF */
    REPORT_USAGE = 1 << 3, /* IORING_SEND_ZC_REPORT_USAGE */
    /* IORING_FEAT_NO_IOWAIT came with the same kernel as SENDMSG_ZC from registered memory, which
     * has no bit of its own. Memory could be registered long before. */
    FEATURE_OF_6_15 = 1 << 17
};
#define USAGE_COPIED (1u << 31) /* IORING_NOTIF_USAGE_ZC_COPIED */

/* An empty table is registered with the first region; places in it are filled and emptied. */
static int regions_make(struct engine *engine)
{
    int code =
        engine->has_regions ? 0 : io_uring_register_buffers_sparse(&engine->ring, REGIONS_MAX);
    engine->has_regions = code == 0;
    return code;
}

static int region_set(struct engine *engine, uint32_t number, void *memory, size_t size)
{
    const struct iovec vector = {memory, size};
    const __u64 tag = 0;
    int count = io_uring_register_buffers_update_tag(&engine->ring, number, &vector, &tag, 1);
    return count < 0 ? count : 0;
}

int dg_ring_lend(struct engine *engine, struct region *region)
{
    uint32_t number = 0;
    if (!(engine->ring.features & FEATURE_OF_6_15)) {
        return -EINVAL;
    }
    while (number < REGIONS_MAX && engine->region_used[number]) {
        number++;
    }
    if (number == REGIONS_MAX) {
        return -ENOBUFS;
    }
    int code = regions_make(engine);
    if (code == 0) {
        code = region_set(engine, number, region->memory, region->size);
    }
    if (code == 0) {
        engine->region_used[number] = true;
        region->number = number;
    }
    return code;
}

/* Sends that are under way keep their pages; the place in the table is free at once. */
void dg_ring_reclaim(struct engine *engine, const struct region *region)
{
    assert(region->number < REGIONS_MAX && engine->region_used[region->number]);
    if (!engine->down) {
        (void) region_set(engine, region->number, NULL, 0);
    }
    engine->region_used[region->number] = false;
}

void dg_ring_loan_prepare(struct engine *engine, struct io_uring_sqe *sqe, uint32_t index)
{
    const struct train *train = engine->sends[index];
    io_uring_prep_sendmsg_zc(sqe, train->endpoint->fd, &train->header, MSG_DONTWAIT);
    sqe->ioprio |= FIXED_BUFFER | REPORT_USAGE;
    sqe->buf_index = (uint16_t) train->region->number;
    sqe->user_data = ring_user_data(OPERATION_LEND, engine->send_generation,
                                    (uint32_t) train->loan << 16 | index);
}

void dg_ring_loan_completed(struct engine *engine, const struct io_uring_cqe *cqe)
{
    uint32_t loan = (uint32_t) cqe->user_data >> 16, index = (uint32_t) cqe->user_data & 0xffff;
    if (cqe->flags & IORING_CQE_F_NOTIF) {
        *completions_append(engine->out) =
            (struct completion){.kind = COMPLETION_RELEASED,
                                .loan = loan,
                                .result = ((uint32_t) cqe->res & USAGE_COPIED) != 0};
        return;
    }
    assert(index < engine->send_count && engine->sends[index]->loan == loan);
    engine->sends[index]->result = cqe->res < 0 ? cqe->res : 0;
    engine->sends[index]->kept = (cqe->flags & IORING_CQE_F_MORE) != 0;
}
