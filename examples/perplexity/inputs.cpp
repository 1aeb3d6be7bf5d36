#include "inputs.hpp"

#include <algorithm>
#include <iostream>
#include <stdexcept>
#include <utility>

#include "bundled.hpp"
#include "output_file.hpp"
#include "read_vocabulary.hpp"
#include "report.hpp"

namespace demo {

namespace {

constexpr std::size_t default_context = 1024;

std::vector<token> read_text(const options& o, const tokenizer& words) {
    const std::string text = o.text ? read_file(*o.text) : std::string(bundled_text());
    if (const std::string odd = odd_bytes(text); !odd.empty()) note(source_name(o) + ": " + odd);
    return words.encode(text);
}

/// The text in sequences of `context` tokens; says how much of it is in none.
std::vector<sequence> cut_text(const options& o, const tokenizer& words, std::span<const token> tokens,
                               std::size_t context) {
    const std::string name = source_name(o);
    auto sequences = cut(tokens, words.bos(), context);
    const std::size_t bos = words.bos() ? 1 : 0;
    const std::size_t all = tokens.size() + bos;
    if (sequences.empty()) {
        throw std::runtime_error(name + ": too short: " + tokens_of(all) + (bos ? " with BOS" : "") +
                                 ", a sequence of --context " + std::to_string(context) + " needs at least " +
                                 std::to_string((context + 1) / 2) +
                                 (all < 2 ? "" : "; --context " + std::to_string(all) + " takes them all"));
    }
    const std::size_t left_out = tokens.size() + bos * sequences.size() - count_tokens(sequences);
    if (left_out > 0 && (!o.limit || count_predictions(sequences) < *o.limit)) {
        note(name + ": the last " + grouped(left_out) + " of " + tokens_of(tokens.size()) +
             " are left out, less than half a sequence of --context " + std::to_string(context));
    }
    return sequences;
}

}  // namespace

void note(const std::string& sentence) { std::cerr << "perplexity: note: " << sentence << '\n'; }

std::string tokens_of(std::size_t n) { return grouped(n) + (n == 1 ? " token" : " tokens"); }

std::size_t count_tokens(std::span<const sequence> sequences) {
    std::size_t tokens = 0;
    for (const sequence& s : sequences) tokens += s.size();
    return tokens;
}

std::size_t count_predictions(std::span<const sequence> sequences) {
    return count_tokens(sequences) - sequences.size();
}

std::string source_name(const options& o) {
    const std::optional<std::filesystem::path>& path = o.tokens ? o.tokens : o.text;
    return path ? name_of(*path) : std::string(bundled_text_name);
}

/// The trained length bounds the default only: a user may ask for more, or have a file that names none.
std::size_t context_for(const options& o, const gguf& file) {
    if (o.context) return *o.context;
    const std::uint64_t trained = trained_length(file);
    return trained < 2 ? default_context : static_cast<std::size_t>(std::min<std::uint64_t>(trained, default_context));
}

gguf open_model(const options& o) {
    return o.model ? gguf(*o.model) : gguf(bundled_model(), std::string(bundled_model_name));
}

std::vector<sequence> read_sequences(const options& o, const gguf& file, std::size_t& context, std::size_t vocabulary,
                                     std::vector<token>* all) {
    std::vector<sequence> sequences;
    if (o.tokens) {
        sequences = read_tokens(*o.tokens, vocabulary);
        if (sequences.empty()) throw std::runtime_error(name_of(*o.tokens) + ": too short: no tokens");
        context = std::ranges::max(sequences, {}, &sequence::size).size();
    } else {
        context = context_for(o, file);
        const tokenizer words = read_tokenizer(file);
        for (const std::string& sentence : words.notes()) note(sentence);
        if (words.size() > vocabulary) {
            throw file.error("the tokenizer has " + std::to_string(words.size()) + " tokens, the model only " +
                             std::to_string(vocabulary));
        }
        std::vector<token> tokens = read_text(o, words);
        sequences = cut_text(o, words, tokens, context);
        if (all != nullptr) *all = std::move(tokens);
    }
    if (o.limit) limit_predictions(sequences, *o.limit);
    return sequences;
}

void print_notes(const gguf& file, const llama& model, const std::vector<sequence>& sequences) {
    for (const std::string& sentence : model.notes()) note(sentence);
    const std::size_t longest = std::ranges::max(sequences, {}, &sequence::size).size();
    const std::uint64_t trained = trained_length(file);
    if (trained < 2 || longest <= trained) return;
    note("sequences of " + tokens_of(longest) + " are longer than the " + grouped(trained) +
         " that the model was made for");
}

void check_files(const options& o) {
    std::vector<named_file> inputs;
    if (o.model) inputs.push_back({"--model", *o.model});
    if (o.tokens) inputs.push_back({"--tokens", *o.tokens});
    if (o.text) inputs.push_back({"--text", *o.text});
    std::vector<named_file> outputs;
    if (!o.quiet) outputs.push_back({"the table (--quiet prints none)", "-"});
    if (o.json) outputs.push_back({"--json", *o.json});
    if (o.report) outputs.push_back({"--report", *o.report});
    if (o.nll) outputs.push_back({"--nll", *o.nll});
    if (o.trace) outputs.push_back({"--trace", *o.trace});
    demo::check_files(inputs, outputs);
}

}  // namespace demo
