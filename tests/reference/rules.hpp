#pragma once

// THE list once more, as references: one rule for each policy that the library ships.
#include <string_view>
#include <vector>

#include "reference/rule.hpp"

namespace reference {

// attention_rules.cpp
extern const rule full, window, h2o, h2o_layer, tova, tova_head;

/// In the order above.
inline std::vector<rule> every_rule() { return {full, window, h2o, h2o_layer, tova, tova_head}; }

inline rule rule_named(std::string_view name) {
    for (const rule& r : every_rule()) {
        if (r.name == name) return r;
    }
    return {};
}

}  // namespace reference
