// One program, two translation units with different instruction sets: each must run its own instance of the library
// and come to the same results.
#include <cmath>
#include <cstdio>
#include <string_view>

#include "odr/unit.hpp"

namespace {

const float queries[] = {1, 0.5f, 0.5f, 1};
const float keys[] = {1, 0, 0, 1, -2, -1, 1, 1, 2, 0};
const float values[] = {0, 0, 1, -1, 2, -2, 3, -3, 4, -4};

int failures = 0;

void check(bool holds, const char* what) {
    if (holds) return;
    std::printf("failed: %s\n", what);
    ++failures;
}

/// The last step attends to positions 0, 1, 3 and 4 (2 was forgotten): logits of q.k / sqrt(2).
void check_results(const unit_result& r) {
    const double logits[2][4] = {{1, 0.5, 1.5, 2}, {0.5, 1, 1.5, 1}};
    const int positions[4] = {0, 1, 3, 4};
    for (int head = 0; head < 2; ++head) {
        double total = 0, sum = 0;
        for (int j = 0; j < 4; ++j) {
            const double weight = std::exp(logits[head][j] / std::sqrt(2.0));
            total += weight;
            sum += weight * positions[j];
        }
        // four float32 roundings of a number near 2
        check(std::abs(static_cast<double>(r.out[2 * head]) - sum / total) < 2e-6, "the output of a step");
        check(std::abs(static_cast<double>(r.out[2 * head + 1]) + sum / total) < 2e-6, "the output of a step");
    }
    // Attention summed over both heads: .364 .378 .621 .636, so position 0 goes.
    check(r.held[0] == 1 && r.held[1] == 3 && r.held[2] == 4, "the states kept");
}

}  // namespace

const float* const unit_queries = queries;
const float* const unit_keys = keys;
const float* const unit_values = values;

int main() {
    const unit_result baseline = run_baseline();
    const unit_result native = run_native();
    const std::string_view first(baseline.target, baseline.target_length);
    const std::string_view second(native.target, native.target_length);
    std::printf("targets %.*s and %.*s\n", static_cast<int>(first.size()), first.data(),
                static_cast<int>(second.size()), second.data());
    check_results(baseline);
    check_results(native);
    // SSE4 alone is no target of its own: Highway asks for AES and PCLMUL with it.
    const bool differ = (baseline.flags & ~1) != (native.flags & ~1);
    check(!differ || first != second, "different instructions, different targets");
    check((first != second) == (baseline.instance != native.instance), "an instance of the library for each target");
    return failures == 0 ? 0 : 1;
}
