#pragma once

#include <stdexcept>
#include <string>

namespace support {

/// The message of the std::invalid_argument that f throws, or "nothing".
template <class F>
std::string what_is_thrown(F f) {
    try {
        f();
    } catch (const std::invalid_argument& e) {
        return e.what();
    }
    return "nothing";
}

}  // namespace support
