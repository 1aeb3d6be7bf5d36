// OpenMP as the executor: every task once, and the bits of serial.
#include <chrono>
#include <omp.h>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/execution/openmp.hpp>

#include "support/any_policy.hpp"
#include "support/layer_run.hpp"

namespace {

namespace ms = multistate;

class openmp : public testing::Test {
  protected:
    void SetUp() override {
        omp_set_dynamic(0);
        omp_set_num_threads(3);
    }
};

TEST_F(openmp, every_task_runs_once) {
    for (const std::size_t tasks : {0U, 1U, 2U, 7U, 1000U}) {
        std::vector<int> count(tasks);
        ms::openmp{}.run(tasks, [&](std::size_t i) { ++count[i]; });
        EXPECT_EQ(count, std::vector<int>(tasks, 1)) << tasks << " tasks";
    }
}

TEST_F(openmp, tasks_are_shared) {
    std::vector<std::thread::id> ran_on(3);
    ms::openmp{}.run(3, [&](std::size_t i) {
        ran_on[i] = std::this_thread::get_id();
        std::this_thread::sleep_for(std::chrono::milliseconds(50));  // long enough for the others to take theirs
    });
    EXPECT_GT(std::set(ran_on.begin(), ran_on.end()).size(), 1U);
}

/// What a task left in the cache of a core is found there by the same task of the next run.
TEST_F(openmp, threads_keep_their_tasks) {
    std::vector<std::thread::id> first(7), ran_on(7);
    const auto run = [](std::vector<std::thread::id>& on) {
        ms::openmp{}.run(on.size(), [&](std::size_t i) { on[i] = std::this_thread::get_id(); });
    };
    run(first);
    for (int round = 0; round < 300; ++round) {
        run(ran_on);
        ASSERT_EQ(ran_on, first) << round;
    }
}

TEST_F(openmp, a_run_inside_a_task_stays_on_its_thread) {
    std::vector<int> strangers(5);
    ms::openmp{}.run(strangers.size(), [&](std::size_t i) {
        const auto here = std::this_thread::get_id();
        ms::openmp{}.run(20, [&](std::size_t) {
            if (std::this_thread::get_id() != here) ++strangers[i];
        });
    });
    EXPECT_EQ(strangers, std::vector<int>(5));
}

class openmp_policies : public openmp, public testing::WithParamInterface<std::string_view> {};

TEST_P(openmp_policies, the_bits_of_serial) { support::expect_the_bits_of_serial(GetParam(), ms::openmp{}); }
INSTANTIATE_TEST_SUITE_P(openmp, openmp_policies, testing::ValuesIn(ms::any_policy::names), support::policy_name);

}  // namespace
