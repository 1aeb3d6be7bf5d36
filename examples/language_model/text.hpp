// Texts as characters: each byte that occurs in the training text is a token, all others are token 0.
//
//     const alphabet known(training_text);
//     const std::vector<int> tokens = known.encode(text);
//     const training::batch b = language_model::sample(tokens, {.sequences = 16, .length = 256}, random);
#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model.hpp"
#include "random.hpp"

namespace language_model {

class alphabet {
  public:
    explicit alphabet(std::string_view text);
    /// Kinds of tokens, with the one that stands for all unknown bytes.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::vector<int> encode(std::string_view text) const;

  private:
    std::array<int, 256> ids_{};
    std::size_t size_ = 1;
};

/// The files one after the other. Throws std::runtime_error that names the file and the reason.
[[nodiscard]] std::string read_texts(const std::vector<std::filesystem::path>& files);

/// Sequences that begin anywhere in the text; the target of each token is the next one. The text needs more than
/// `length` tokens.
[[nodiscard]] training::batch sample(std::span<const int> text, const training::batch_shape& shape,
                                     training::random_source& random);
/// Sequences at even distances, always the same.
[[nodiscard]] training::batch evenly(std::span<const int> text, const training::batch_shape& shape);

}  // namespace language_model
