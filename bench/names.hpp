#pragma once

// Names of benchmarks: the family, then what it varies, e.g. step/tova/f16/32x8/512. The report's tables are made of
// them, one column for each part.
#include <concepts>
#include <string>
#include <string_view>

namespace bench {

namespace detail {
inline std::string text(std::string_view part) { return std::string(part); }
inline std::string text(std::integral auto part) { return std::to_string(part); }
}  // namespace detail

/// The parts with slashes between them.
template <class... Parts>
std::string joined(std::string name, const Parts&... parts) {
    ((name += '/', name += detail::text(parts)), ...);
    return name;
}

}  // namespace bench
