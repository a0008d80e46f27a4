/* SPDX-License-Identifier: MIT */
/*
 * questions.h: a program that resolves host names itself, by the `lookup` hook, and answers when
 * the test says so.
 */
#ifndef DGRAM_TESTS_SUPPORT_QUESTIONS_H
#define DGRAM_TESTS_SUPPORT_QUESTIONS_H

#include <string>
#include <utility>
#include <vector>

#include "tests/support/harness.h"

namespace harness
{

/* The program's resolver: it answers when the test does. */
struct Questions {
    std::vector<std::pair<std::string, struct dgram_lookup *>> open;

    static void ask(struct dgram_loop *, struct dgram_lookup *lookup, const char *host, int,
                    void *user)
    {
        if (muted()) {
            dgram_lookup_answer(lookup, DGRAM_ENOTFOUND, nullptr, 0);
        } else {
            static_cast<Questions *>(user)->open.emplace_back(host, lookup);
        }
    }
    bool answer(const std::string &host, const struct dgram_addr *address)
    {
        for (auto each = open.begin(); each != open.end(); ++each) {
            if (each->first == host) {
                struct dgram_lookup *lookup = each->second;
                open.erase(each);
                dgram_lookup_answer(lookup, address != nullptr ? 0 : DGRAM_EDNSTIMEOUT, address,
                                    60);
                return true;
            }
        }
        return false;
    }
};

class QuestionsTest : public EngineTest
{
  protected:
    void SetUp() override
    {
        EngineTest::SetUp();
        if (!IsSkipped()) {
            struct dgram_loop_options options = loop_options();
            options.lookup = Questions::ask;
            options.lookup_user = &questions;
            remake_loop(options);
        }
    }
    void TearDown() override
    {
        for (const auto &each : questions.open) {
            dgram_lookup_answer(each.second, DGRAM_ENOTFOUND, nullptr, 0);
        }
        questions.open.clear();
        EngineTest::TearDown();
    }

    Questions questions;
};

} /* namespace harness */

#endif
