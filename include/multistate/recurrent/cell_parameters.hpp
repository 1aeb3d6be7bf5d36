#pragma once

// The parameters of a cell: float32, or bf16 for inference, owned by the caller.
//
//     detail::cell_parameters p("min_gru", count, parameters);   // throws unless there are `count` finite numbers
//     p.visit([&](const auto* numbers) { … });                   // const float* or const std::uint16_t*
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "multistate/core/errors.hpp"
#include "multistate/recurrent/linear.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET { namespace detail {

class cell_parameters {
  public:
    cell_parameters(const char* who, std::size_t count, std::span<const float> given)
        : floats_(checked(who, count, given)) {}
    cell_parameters(const char* who, std::size_t count, std::span<const std::uint16_t> given)
        : bf16_(checked(who, count, given)) {}

    /// Calls f with the numbers in the type in which they are stored.
    template <class F>
    MULTISTATE_INLINE void visit(F f) const noexcept {
        if (floats_ != nullptr) {
            f(floats_);
        } else {
            f(bf16_);
        }
    }
    /// The parameters as float32. Reports an error if they are bf16: gradients need float32.
    const float* floats(const char* who) const noexcept {
        check(floats_ != nullptr, who, "parameters", "float32", "bf16");
        return floats_;
    }

  private:
    template <class Element>
    static const Element* checked(const char* who, std::size_t count, std::span<const Element> given) {
        require(given.size() == count, who, "parameters", bound{"parameter_count(shape) = ", count}, given.size());
        for (std::size_t i = 0; i < count; ++i) {
            const float x = as_float(given[i]);
            if (!std::isfinite(x)) {
                refuse(who, "parameters", "finite", std::to_string(x) + " at index " + std::to_string(i));
            }
        }
        return given.data();
    }

    const float* floats_ = nullptr;
    const std::uint16_t* bf16_ = nullptr;
};

}}}  // namespace multistate::MULTISTATE_TARGET::detail
