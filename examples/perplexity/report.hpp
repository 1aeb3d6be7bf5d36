// The results, for people and for programs.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

#include "measurement.hpp"
#include "options.hpp"

namespace demo {

/// One policy at one k.
struct run {
    setting what;
    measurement result;
};

/// Policies by k, as table 3 of the TOVA paper; then the differences to full, memory and speed, and for each policy
/// the smallest k within 1 % of full that forgot something. For a budget, what each layer kept.
void print_table(std::ostream& out, std::span<const run> runs, const measurement& full);

void write_json(std::ostream& out, std::span<const run> runs, const options& o, std::size_t context);
void write_nll(std::ostream& out, const measurement& m);
void write_trace(std::ostream& out, const measurement& m);

/// 12345 as "12,345".
[[nodiscard]] std::string grouped(std::size_t n);

/// What the processor calls itself; "unknown" where the system does not say.
[[nodiscard]] std::string processor_name();

}  // namespace demo
