/* SPDX-License-Identifier: MIT */
/*
 * api_test.c: every public function is in the shared library, and that library is the one that the
 * header describes. Plain C11, linked as a user links.
 */
#include <dgram.h>
#include <stdio.h>
#include <string.h>

typedef void any_fn(void);

static any_fn *const functions[] = {
    (any_fn *) dgram_version,
    (any_fn *) dgram_strerror,
    (any_fn *) dgram_error_name,
    (any_fn *) dgram_addr_parse,
    (any_fn *) dgram_addr_text,
    (any_fn *) dgram_addr_port,
    (any_fn *) dgram_addr_family,
    (any_fn *) dgram_addr_equal,
    (any_fn *) dgram_loop_create,
    (any_fn *) dgram_loop_free,
    (any_fn *) dgram_loop_run,
    (any_fn *) dgram_loop_turn,
    (any_fn *) dgram_loop_flush,
    (any_fn *) dgram_loop_stop,
    (any_fn *) dgram_loop_post,
    (any_fn *) dgram_loop_fd,
    (any_fn *) dgram_loop_now,
    (any_fn *) dgram_engine_probe,
    (any_fn *) dgram_lookup_answer,
    (any_fn *) dgram_loop_info,
    (any_fn *) dgram_timer_create,
    (any_fn *) dgram_timer_start,
    (any_fn *) dgram_timer_stop,
    (any_fn *) dgram_timer_ref,
    (any_fn *) dgram_timer_unref,
    (any_fn *) dgram_timer_free,
    (any_fn *) dgram_create_socket,
    (any_fn *) dgram_bind,
    (any_fn *) dgram_address,
    (any_fn *) dgram_close,
    (any_fn *) dgram_end,
    (any_fn *) dgram_ref,
    (any_fn *) dgram_unref,
    (any_fn *) dgram_socket_loop,
    (any_fn *) dgram_on_message,
    (any_fn *) dgram_on_messages,
    (any_fn *) dgram_on_listening,
    (any_fn *) dgram_on_error,
    (any_fn *) dgram_on_drain,
    (any_fn *) dgram_on_close,
    (any_fn *) dgram_send,
    (any_fn *) dgram_send_to,
    (any_fn *) dgram_destination_create,
    (any_fn *) dgram_destination_address,
    (any_fn *) dgram_destination_free,
    (any_fn *) dgram_send_dest,
    (any_fn *) dgram_send_many,
    (any_fn *) dgram_buffer_create,
    (any_fn *) dgram_buffer_data,
    (any_fn *) dgram_on_idle,
    (any_fn *) dgram_buffer_in_use,
    (any_fn *) dgram_buffer_zero_copy,
    (any_fn *) dgram_buffer_free,
    (any_fn *) dgram_send_buffer,
    (any_fn *) dgram_get_send_queue_size,
    (any_fn *) dgram_get_send_queue_count,
    (any_fn *) dgram_pause,
    (any_fn *) dgram_resume,
    (any_fn *) dgram_message_retain,
    (any_fn *) dgram_message_release,
    (any_fn *) dgram_socket_stats,
    (any_fn *) dgram_set_broadcast,
    (any_fn *) dgram_set_ttl,
    (any_fn *) dgram_set_multicast_ttl,
    (any_fn *) dgram_set_multicast_loopback,
    (any_fn *) dgram_set_multicast_interface,
    (any_fn *) dgram_add_membership,
    (any_fn *) dgram_drop_membership,
    (any_fn *) dgram_set_recv_buffer_size,
    (any_fn *) dgram_set_send_buffer_size,
    (any_fn *) dgram_get_recv_buffer_size,
    (any_fn *) dgram_get_send_buffer_size,
};

int main(void)
{
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", DGRAM_VERSION_MAJOR, DGRAM_VERSION_MINOR,
             DGRAM_VERSION_PATCH);
    if (strcmp(version, dgram_version()) != 0) {
        printf("the header is %s, the library %s\n", version, dgram_version());
        return 1;
    }
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        if (!functions[i]) {
            printf("function %zu of the list is missing\n", i);
            return 1;
        }
    }
    return 0;
}
