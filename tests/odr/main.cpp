// One program, translation units with different instruction sets and levels of checks: each must run its own instance
// of the library and come to the same results. Two of them differ in what Highway does not know of, the dot products,
// and two in the level alone.
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
        const auto near = [&](const float* out, double bound) {
            return std::abs(static_cast<double>(out[2 * head]) - sum / total) < bound &&
                   std::abs(static_cast<double>(out[2 * head + 1]) + sum / total) < bound;
        };
        check(near(r.out, 2e-6), "the output of a step");  // four float32 roundings of a number near 2
        check(near(r.out_of_bytes, 2e-2), "the output of a step on int8");
        check(near(r.out_of_brains, 2e-2), "the output of a step on bf16");
    }
    // Attention summed over both heads: .364 .378 .621 .636, so position 0 goes.
    check(r.held[0] == 1 && r.held[1] == 3 && r.held[2] == 4, "the states kept");
}

std::string_view target(const unit_result& r) { return {r.target, r.target_length}; }

void check_instances(const unit_result& a, const unit_result& b) {
    // SSE4 alone is no target of its own: Highway asks for AES and PCLMUL with it.
    const bool differ = (a.flags & ~1) != (b.flags & ~1);
    check(!differ || target(a) != target(b), "different instructions, different targets");
    const bool named_apart = target(a) != target(b) || a.checks != b.checks;
    check(named_apart == (a.softmax != b.softmax), "an instance of the library for each target and level");
    check(named_apart == (a.dot_products != b.dot_products), "an instance of a template for each target");
    check(a.failure_handler == b.failure_handler, "one failure handler for all");
}

}  // namespace

const float* const unit_queries = queries;
const float* const unit_keys = keys;
const float* const unit_values = values;

int main() {
    const unit_result parts[] = {run_baseline(), run_without_dots(), run_native(), run_unchecked()};
    check(parts[2].checks != parts[3].checks && target(parts[2]) == target(parts[3]), "two levels for one target");
    for (const unit_result& part : parts) {
        std::printf("target %.*s, checks %d\n", static_cast<int>(target(part).size()), target(part).data(),
                    part.checks);
        check_results(part);
        for (const unit_result& other : parts) check_instances(part, other);
    }
    return failures == 0 ? 0 : 1;
}
