// The results, for people and for programs.
#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
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

/// A file that appears whole or not at all: written beside its place, moved there by commit(). Throws
/// std::runtime_error that names it if it cannot be written.
class output_file {
  public:
    explicit output_file(std::filesystem::path path);
    ~output_file();
    output_file(const output_file&) = delete;
    output_file& operator=(const output_file&) = delete;

    std::ostream& stream() noexcept { return stream_; }
    void commit();

  private:
    std::filesystem::path path_;
    std::filesystem::path written_;  // path_ itself where that is a device or a pipe
    std::ofstream stream_;
    bool committed_ = false;
};

/// Policies by k, as table 3 of the TOVA paper; then the differences to full, memory and speed, and for each policy
/// the smallest k within 1 % of full.
void print_table(std::ostream& out, std::span<const run> runs, const measurement& full);

void write_json(std::ostream& out, std::span<const run> runs, const options& o, std::size_t context);
void write_nll(std::ostream& out, const measurement& m);
void write_trace(std::ostream& out, const measurement& m);

/// 12345 as "12,345".
[[nodiscard]] std::string grouped(std::size_t n);

/// What the processor calls itself; "unknown" where the system does not say.
[[nodiscard]] std::string processor_name();

}  // namespace demo
