#pragma once

// Runs one sequence of operations on a cache and compares it with the naive model after each.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <vector>

#include <gtest/gtest.h>
#include <multistate/attention/prefill.hpp>
#include <multistate/cache/cache.hpp>

#include "reference/scenario.hpp"

namespace reference {

template <class Cache>
class lockstep {
  public:
    lockstep(Cache& cache, const prepared& p)
        : cache_(cache),
          scratch_(cache.shape()),
          scenario_(p.what),
          tokens_(p.tokens),
          expected_(p.expected),
          before_(p.what.shape.kv_heads) {}

    /// Outputs are weighted means of values within ±1. A probability's relative error is at most twice that of a logit
    /// (about 1e-6 here: 128 products of magnitude 1 at most, summed in float32) plus softmax's own 1e-6.
    double bound = 1e-5;

    void run() {
        int position = 0;
        for (std::size_t i = 0; i < scenario_.operations.size(); ++i) {
            const operation& o = scenario_.operations[i];
            apply(o, position);
            compare(i, position);
            if (testing::Test::HasFailure()) {
                ADD_FAILURE() << "operation " << i << " of " << scenario_;
                return;
            }
            if (o.what <= operation::block) token_ += o.tokens;
            position = o.what == operation::clear ? 0 : position + expectation::advance(o);
        }
    }

  private:
    void apply(const operation& o, int position) {
        namespace ms = multistate;
        const std::size_t n = o.tokens;
        const auto q = tokens_.q(token_, o.what <= operation::block ? n : 0);
        const auto k = tokens_.k(token_, o.what <= operation::block ? n : 0);
        const auto v = tokens_.v(token_, o.what <= operation::block ? n : 0);
        out_.assign(o.what <= operation::block ? n * tokens_.out_width : 0, 9.0f);
        bool done = true;
        if (o.what == operation::step) done = ms::step(layer(), position, {q, k, v}, out_, scratch_);
        if (o.what == operation::exact) done = ms::prefill(layer(), position, {q, k, v}, out_, scratch_);
        if (o.what == operation::block) {
            done = ms::prefill(layer(), position, {q, k, v}, out_, scratch_, ms::prefill_mode::block);
        }
        if (o.what == operation::forget) layer().forget();
        if (o.what == operation::clear) cache_.clear();
        if (o.what == operation::clone) cache_ = cache_.clone();
        EXPECT_TRUE(done);
    }

    void compare(std::size_t i, int position) {
        const operation& o = scenario_.operations[i];
        const answer& expected = expected_.answers[i];
        EXPECT_EQ(out_.size(), expected.out.size());
        double error = 0;
        for (std::size_t c = 0; c < out_.size(); ++c) {
            const double difference = std::abs(static_cast<double>(out_[c]) - expected.out[c]);
            if (!(difference <= error)) error = difference;  // a NaN stays
        }
        EXPECT_LE(error, bound);
        for (std::size_t h = 0; h < scenario_.shape.kv_heads; ++h) {
            std::vector<int> present(layer().positions(h).begin(), layer().positions(h).end());
            std::sort(present.begin(), present.end());
            EXPECT_EQ(present, expected.present[h]) << "KV head " << h;
            if (o.what == operation::clear) before_[h].clear();
            if (o.what != operation::clear && o.what != operation::skip && o.what != operation::clone) {
                check_forgotten(i, h, position, present);
            }
            before_[h] = present;
        }
    }

    /// What the library says it forgot is exactly what was there, or came, and is no longer there.
    void check_forgotten(std::size_t i, std::size_t kv_head, int first, const std::vector<int>& present) {
        const operation& o = scenario_.operations[i];
        std::vector<int> came = before_[kv_head];
        for (int t = 0; t < expectation::advance(o); ++t) came.push_back(first + t);
        std::vector<int> gone;
        std::set_difference(came.begin(), came.end(), present.begin(), present.end(), std::back_inserter(gone));
        std::vector<int> reported;
        int last = -1;
        for (const auto [position, decided_by] : layer().forgotten(kv_head)) {
            reported.push_back(position);
            EXPECT_EQ(decided_by, expected_.decided_by(i, kv_head, position)) << "position " << position;
            EXPECT_LE(last, decided_by) << "in the order of the decisions";
            last = decided_by;
        }
        std::sort(reported.begin(), reported.end());
        EXPECT_EQ(reported, gone) << "KV head " << kv_head;
    }

    auto layer() { return cache_.layer(scenario_.shape.layers - 1); }

    Cache& cache_;
    multistate::workspace scratch_;
    const scenario& scenario_;
    const support::stream& tokens_;
    const expectation& expected_;
    std::vector<std::vector<int>> before_;
    std::vector<float> out_;
    std::size_t token_ = 0;
};

}  // namespace reference
