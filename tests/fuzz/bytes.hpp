#pragma once

// What a fuzzer's input means to a target that does not read a file format.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace fuzz {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

/// Small numbers, one byte each; 0 where the input has ended.
class numbers {
  public:
    numbers(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

    bool empty() const { return left_.empty(); }
    /// From 0 to limit - 1, limit at most 256.
    std::size_t below(std::size_t limit) {
        if (left_.empty()) return 0;
        const std::size_t byte = left_.front();
        left_ = left_.subspan(1);
        return byte % limit;
    }

  private:
    std::span<const std::uint8_t> left_;
};

}  // namespace fuzz
