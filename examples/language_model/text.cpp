#include "text.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace language_model {

namespace {

void append(training::batch& b, std::span<const int> text, std::size_t first) {
    const auto tokens = text.subspan(first, b.shape.length + 1);
    b.tokens.insert(b.tokens.end(), tokens.begin(), tokens.end() - 1);
    b.targets.insert(b.targets.end(), tokens.begin() + 1, tokens.end());
}

}  // namespace

alphabet::alphabet(std::string_view text) {
    std::array<bool, 256> seen{};
    for (const char c : text) seen[static_cast<unsigned char>(c)] = true;
    for (std::size_t byte = 0; byte < seen.size(); ++byte) {
        if (seen[byte]) ids_[byte] = static_cast<int>(size_++);
    }
}

std::vector<int> alphabet::encode(std::string_view text) const {
    std::vector<int> tokens(text.size());
    std::ranges::transform(text, tokens.begin(), [&](char c) { return ids_[static_cast<unsigned char>(c)]; });
    return tokens;
}

std::string read_texts(const std::vector<std::filesystem::path>& files) {
    std::string all;
    for (const auto& path : files) {
        std::ifstream file(path, std::ios::binary);
        if (std::filesystem::is_directory(path)) throw std::runtime_error(path.string() + ": is a folder");
        if (!file) throw std::runtime_error(path.string() + ": cannot be read");
        all.append(std::istreambuf_iterator<char>(file), {});
        if (file.bad()) throw std::runtime_error(path.string() + ": cannot be read");
    }
    return all;
}

training::batch sample(std::span<const int> text, const training::batch_shape& shape, training::random_source& random) {
    training::batch b{.shape = shape};
    for (std::size_t s = 0; s < shape.sequences; ++s) append(b, text, random.below(text.size() - shape.length));
    return b;
}

training::batch evenly(std::span<const int> text, const training::batch_shape& shape) {
    training::batch b{.shape = shape};
    for (std::size_t s = 0; s < shape.sequences; ++s) {
        append(b, text, (text.size() - shape.length - 1) * s / shape.sequences);
    }
    return b;
}

}  // namespace language_model
