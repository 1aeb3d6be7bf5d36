#pragma once

#include <string>

namespace support {

/// Names the tests of a typed suite after the types: policies, parts, codecs.
struct type_names {
    template <class T>
    static std::string GetName(int) {
        return std::string(T::name);
    }
};

}  // namespace support
