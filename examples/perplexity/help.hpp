// What --help prints, in lines that fit the terminal. The options themselves are in options.cpp.
#pragma once

#include <cstddef>
#include <string>

#include <CLI/CLI.hpp>

namespace demo {

inline constexpr const char* help_description =
    "Measures what it costs a language model to forget: the perplexity of a text when the KV cache may keep only k "
    "states in each layer, by policy and k, beside the full cache; and how far the predictions are from those of the "
    "full cache. With no arguments it measures the bundled model on the bundled novella.";

class help_formatter : public CLI::Formatter {
  public:
    explicit help_formatter(std::size_t columns);

    std::string make_description(const CLI::App* app) const override;
    std::string make_option(const CLI::Option* option, bool is_positional) const override;
    std::string make_option_opts(const CLI::Option* option) const override;
    std::string make_footer(const CLI::App* app) const override;

  private:
    std::size_t columns_;
    std::size_t indent_;  // of what is said of a term, to the right of it or below it
};

}  // namespace demo
