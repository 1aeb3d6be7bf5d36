#pragma once

// THE list once more, as references: one rule for each policy that the library ships.
#include <string_view>
#include <vector>

#include "reference/rule.hpp"

namespace reference {

// accumulated_rules.cpp
extern const rule h2o_normalized, h2o_decayed, h2o_grace, h2o_local, tova_kvpress, scissorhands, roco, keyformer,
    observed_attention, vatp, random, given;
// attention_rules.cpp
extern const rule full, window, h2o, h2o_layer, tova, tova_head;
// key_rules.cpp
extern const rule knorm, keydiff, lagkv, cur, q_filters, expected_attention, capkv, triattention, leverage, noncausal,
    compactor;
// window_rules.cpp
extern const rule morphkv, snapkv, chunkkv, cake, cake_prompt, citrus, citrus_probe, caote, criticalkv, defensivekv,
    r_kv;

/// In the order above.
inline std::vector<rule> every_rule() {
    return {h2o_normalized,
            h2o_decayed,
            h2o_grace,
            h2o_local,
            tova_kvpress,
            scissorhands,
            roco,
            keyformer,
            observed_attention,
            vatp,
            random,
            given,
            full,
            window,
            h2o,
            h2o_layer,
            tova,
            tova_head,
            knorm,
            keydiff,
            lagkv,
            cur,
            q_filters,
            expected_attention,
            capkv,
            triattention,
            leverage,
            noncausal,
            compactor,
            morphkv,
            snapkv,
            chunkkv,
            cake,
            cake_prompt,
            citrus,
            citrus_probe,
            caote,
            criticalkv,
            defensivekv,
            r_kv};
}

inline rule rule_named(std::string_view name) {
    for (const rule& r : every_rule()) {
        if (r.name == name) return r;
    }
    return {};
}

}  // namespace reference
