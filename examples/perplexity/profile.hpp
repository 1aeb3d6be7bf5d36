// Where the query heads of a model look: what perplexity --profile prints.
//
//     const demo::head_profile p = demo::profile_heads(model, sequences, {.near = 32, .own = …}, {});
//     p.near.ranked()                                          // the head whose attention stays nearest comes first
//     p.first.recency()                                        // [layers * heads]: attention on the first token
//     demo::print_profile(std::cout, p, model.config(), {.near = 32, .own = …});
//
// RecurFormer (arXiv 2410.12850) calls the near share the recency ratio, and lets recurrent cells serve the first heads.
// Heads with much attention on the first token use it as an attention sink (arXiv 2309.17453): a window that forgets it
// changes what they do.
#pragma once

#include <cstddef>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>

#include <multistate/budgets/attention_profile.hpp>

#include "llama.hpp"
#include "sequences.hpp"

namespace demo {

struct profile_setting {
    std::size_t near = 32;  ///< how many of the last tokens are near
    ms::own_token own = ms::own_token::counted;
};

struct head_profile {
    ms::attention_profile near;   ///< recency(): the share of attention on the last tokens
    ms::attention_profile first;  ///< recency(): the share on the first token, of queries from first_queries on
    bool has_first = false;       ///< a sequence is long enough for `first`
};
/// With few states, some attention on the first one is no sign of a sink.
inline constexpr ms::position first_queries = 64;

/// Runs all sequences with a full cache and observes every token. One sequence after the other; the model's threads
/// share each.
[[nodiscard]] head_profile profile_heads(const llama& model, std::span<const sequence> sequences,
                                         const profile_setting& s,
                                         const std::function<void(std::size_t tokens)>& progress);

/// What recency() is a share of, in words.
[[nodiscard]] std::string meaning_of(const profile_setting& s);

/// The heads by rank, each with a bar; then the same shares by layer and head; then attention on the first token.
void print_profile(std::ostream& out, const head_profile& profile, const llama_config& config,
                   const profile_setting& s);

/// JSON. "heads": by rank, each with layer, head and kv_head (counted from 0), near, and first where it is known.
void write_profile(std::ostream& out, const head_profile& profile, const llama_config& config, const profile_setting& s,
                   const std::string& model);

}  // namespace demo
