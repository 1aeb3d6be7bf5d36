// Every task runs once, whatever the threads, and a run has ended when it returns.
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/execution/thread_pool.hpp>

#include "support/layer_run.hpp"

namespace thread_pool_test {

namespace ms = multistate;
using ms::thread_pool;

TEST(thread_pool, every_task_runs_once) {
    for (const std::size_t threads : {1U, 2U, 3U, 8U}) {
        thread_pool pool(threads);
        EXPECT_EQ(pool.threads(), threads);
        for (const std::size_t tasks : {0U, 1U, 2U, 7U, 1000U}) {
            std::vector<int> count(tasks);  // no atomics: each task has its own, and run() ends after all
            pool.run(tasks, [&](std::size_t i) { ++count[i]; });
            EXPECT_EQ(count, std::vector<int>(tasks, 1)) << threads << " threads, " << tasks << " tasks";
        }
    }
}

TEST(thread_pool, runs_follow_each_other) {
    thread_pool pool(4);
    std::vector<std::size_t> values(16);
    for (std::size_t round = 0; round < 3000; ++round) {
        pool.run(values.size(), [&](std::size_t i) { values[i] += i + round; });  // reads what the last round wrote
    }
    for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], 3000 * i + 2999 * 3000 / 2);
}

TEST(thread_pool, helpers_help) {
    thread_pool pool(2);
    // Each task waits for the other, which only two threads can do.
    std::atomic<int> arrived{0};
    pool.run(2, [&](std::size_t) {
        ++arrived;
        while (arrived != 2) std::this_thread::yield();
    });
    EXPECT_EQ(arrived, 2);
}

/// What a task left in the cache of a core is found there by the same task of the next run.
TEST(thread_pool, threads_keep_their_tasks) {
    thread_pool pool(2);
    std::vector<std::thread::id> before(2);
    for (int round = 0; round < 300; ++round) {
        std::vector<std::thread::id> ran_on(2);
        std::atomic<int> arrived{0};
        pool.run(2, [&](std::size_t i) {  // waits for the other, so that neither takes both
            ran_on[i] = std::this_thread::get_id();
            ++arrived;
            while (arrived != 2) std::this_thread::yield();
        });
        if (round > 0) {
            EXPECT_EQ(ran_on, before) << round;
        }
        before = ran_on;
    }
    EXPECT_EQ(before[0], std::this_thread::get_id());
}

TEST(thread_pool, a_thread_that_is_done_takes_tasks_of_others) {
    thread_pool pool(2);
    for (const std::size_t slow : {0U, 4U}) {  // the first task of the caller, and of the helper
        std::atomic<int> done{0};
        pool.run(8, [&](std::size_t i) {
            while (i == slow && done != 7) std::this_thread::yield();
            ++done;
        });
        EXPECT_EQ(done, 8);
    }
}

TEST(thread_pool, a_run_inside_a_task_stays_on_its_thread) {
    thread_pool pool(3);
    for (int round = 0; round < 100; ++round) {
        std::vector<std::size_t> sums(5);
        std::vector<int> strangers(5);
        pool.run(sums.size(), [&](std::size_t i) {
            const auto here = std::this_thread::get_id();
            pool.run(20, [&](std::size_t j) {
                sums[i] += j;
                if (std::this_thread::get_id() != here) ++strangers[i];
            });
        });
        EXPECT_EQ(sums, std::vector<std::size_t>(5, 190));
        EXPECT_EQ(strangers, std::vector<int>(5));
    }
    // Afterwards a run is shared again: each task waits for the other.
    std::atomic<int> arrived{0};
    pool.run(2, [&](std::size_t) {
        ++arrived;
        while (arrived != 2) std::this_thread::yield();
    });
}

TEST(thread_pool, sleepers_wake) {
    thread_pool pool(3);
    for (int round = 0; round < 3; ++round) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // far longer than a helper looks before it sleeps
        std::atomic<int> arrived{0};
        pool.run(3, [&](std::size_t) {  // each task waits for the others: both helpers must be awake
            ++arrived;
            while (arrived != 3) std::this_thread::yield();
        });
    }
}

TEST(thread_pool, comes_and_goes) {
    for (int i = 0; i < 50; ++i) {
        thread_pool unused(3);
        thread_pool used(3);
        std::atomic<int> done{0};
        used.run(3, [&](std::size_t) { ++done; });
        EXPECT_EQ(done, 3);
    }
}

TEST(thread_pool, tasks_may_be_temporaries_and_const) {
    thread_pool pool(2);
    std::atomic<std::size_t> sum{0};
    const auto add = [&](std::size_t i) { sum += i; };
    pool.run(10, add);
    pool.run(10, [&, scale = std::size_t{2}](std::size_t i) mutable { sum += scale * i; });
    EXPECT_EQ(sum, 135U);
}

TEST(thread_pool, threads_may_call_at_the_same_time) {
    thread_pool pool(3);
    std::vector<std::vector<int>> counts(4, std::vector<int>(7));
    {
        std::vector<std::jthread> callers;
        for (auto& count : counts) {
            callers.emplace_back([&] {
                for (int round = 0; round < 500; ++round) pool.run(count.size(), [&](std::size_t i) { ++count[i]; });
            });
        }
    }
    EXPECT_EQ(counts, std::vector(4, std::vector<int>(7, 500)));
}

TEST(thread_pool, no_thread_is_one_thread) {
    thread_pool pool(0);
    EXPECT_EQ(pool.threads(), 1U);
    int sum = 0;
    pool.run(3, [&](std::size_t) { ++sum; });
    EXPECT_EQ(sum, 3);
}

class thread_pool_policies : public testing::TestWithParam<std::string_view> {};

TEST_P(thread_pool_policies, the_bits_of_serial) {
    for (const std::size_t threads : {1U, 2U, 3U}) {
        thread_pool pool(threads);
        support::expect_the_bits_of_serial(GetParam(), pool);
    }
}
INSTANTIATE_TEST_SUITE_P(thread_pool, thread_pool_policies, testing::ValuesIn(ms::any_policy::names),
                         support::policy_name);

}  // namespace thread_pool_test
