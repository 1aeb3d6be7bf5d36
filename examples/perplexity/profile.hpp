// Where the query heads of a model look: what perplexity --profile prints.
//
//     const ms::attention_profile p = demo::profile_heads(model, sequences, {.near = 32, .own = …}, {});
//     p.ranked()                                               // the head whose attention stays nearest comes first
//     demo::print_profile(std::cout, p, model.config(), {.near = 32, .own = …});
//
// RecurFormer (arXiv 2410.12850) calls such a share the recency ratio, and lets recurrent cells serve the first heads.
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

/// Runs all sequences with a full cache and observes every token. One sequence after the other; the model's threads
/// share each.
[[nodiscard]] ms::attention_profile profile_heads(const llama& model, std::span<const sequence> sequences,
                                                  const profile_setting& s,
                                                  const std::function<void(std::size_t tokens)>& progress);

/// What recency() is a share of, in words.
[[nodiscard]] std::string meaning_of(const profile_setting& s);

/// The heads by rank, each with a bar; then the same shares by layer and head.
void print_profile(std::ostream& out, const ms::attention_profile& profile, const llama_config& config,
                   const profile_setting& s);

/// JSON. "heads": by rank, each with layer, head and kv_head (counted from 0), and near, which is its recency().
void write_profile(std::ostream& out, const ms::attention_profile& profile, const llama_config& config,
                   const profile_setting& s, const std::string& model);

}  // namespace demo
