// The results as one web page that needs no network: charts, tables, retained states. page/ holds its three parts.
//
//     demo::write_page(out, results, {.tokens = texts_of_the_first_sequence, .lives = {…}, .command = "perplexity …"});
#pragma once

#include <cstddef>
#include <iosfwd>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <multistate/evaluation/lifetimes.hpp>

#include "measurement.hpp"
#include "results.hpp"

namespace demo {

/// How long the states of a sequence were held in one run.
struct retained {
    setting what;
    ms::lifetimes lives;
};

/// Of sequence `number` of a measurement that noted what was forgotten.
[[nodiscard]] retained retained_of(const setting& what, const measurement& m, const ms::lifetimes_shape& shape,
                                   std::size_t number = 0);

/// Where the query heads look on the first sequence: attention_profile::recency() [layers * heads].
struct head_shares {
    std::size_t recent;  ///< tokens that count as near, the token itself among them
    std::vector<float> near;
};

/// What the page shows beside the results.
struct page_text {
    std::vector<std::string> tokens;        ///< of the first sequence, as text
    std::vector<retained> lives;            ///< the runs whose retained states are drawn
    std::optional<head_shares> heads = {};  ///< none: not drawn
    std::string command;                    ///< the line that made the page
};

/// `all` must have the full baseline. Text that is not UTF-8 is shown with replacement characters.
void write_page(std::ostream& out, const results& all, const page_text& text);

}  // namespace demo
