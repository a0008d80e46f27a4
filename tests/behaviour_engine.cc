/* SPDX-License-Identifier: MIT */
/*
 * behaviour_engine.cc: what is said of engines that this build does not have.
 */
#include "tests/harness.h"

using namespace harness;

namespace
{

/* ---- Engines that were not built ----------------------------------------------------------- */

class Choice : public HostTest
{
};

/* That, and nothing about kernels or permissions. */
TEST_F(Choice, AnEngineThatWasNotBuiltSaysThat)
{
    struct dgram_engine_report report = {};
    report.size = sizeof(report);
    ASSERT_EQ(dgram_engine_probe(DGRAM_ENGINE_URING, &report), 0);
    if (report.code != -ENOTSUP || report.call[0] != '\0') {
        GTEST_SKIP() << "this build has every engine";
    }
    EXPECT_STREQ(report.advice, "this library was built without it");
    struct dgram_loop_options options = loop_options();
    struct dgram_loop *made = nullptr;
    ASSERT_EQ(dgram_loop_create(&options, &made), 0);
    EXPECT_STREQ(info_of(made).refused_advice, report.advice);
    dgram_loop_free(made);
    options.engine = DGRAM_ENGINE_URING;
    EXPECT_EQ(dgram_loop_create(&options, &made), -ENOTSUP);
}

} /* namespace */
