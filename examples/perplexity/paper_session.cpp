#include "paper_session.hpp"

#include <algorithm>
#include <ctime>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "batch_throughput.hpp"
#include "inputs.hpp"
#include "output_file.hpp"
#include "page.hpp"
#include "paper.hpp"
#include "paper_report.hpp"
#include "read_vocabulary.hpp"
#include "report.hpp"
#include "results.hpp"
#include "terminal.hpp"

namespace demo {

namespace {

constexpr std::size_t shortest = 64;  ///< 1/64 of the context must be a state

/// A setting of the row, and its column.
struct planned {
    std::size_t column;
    setting what;
};

class paper_session {
  public:
    explicit paper_session(const options& o) : o_(o), style_{o.format, terminal_columns(STDOUT_FILENO)} {
        style_.columns = std::min<std::size_t>(style_.columns, 88);  // as wide as the tables
        if (o.json) json_.emplace(*o.json);
    }

    int measure_and_print() {
        const gguf file = open_model(o_);
        const std::unique_ptr<ms::thread_pool> pool = make_pool(o_.threads);
        llama model(file, *pool);
        prepare(file, model);
        const std::vector<std::vector<planned>> rows = plan(model);
        postpone_signals();
        measure_perplexities(model, rows);
        if (found_.full) {
            if (!interrupted()) measure_batches(model);
            print_conclusions();
            save_json(!interrupted() && failures_.empty());
        }
        if (interrupted()) note("interrupted; what is done is printed");
        for (const std::string& failure : failures_) std::cerr << "perplexity: " << failure << '\n';
        return !failures_.empty() ? 1 : skipped_ ? 2 : 0;
    }

  private:
    /// Signals come to the first thread only.
    static std::unique_ptr<ms::thread_pool> make_pool(std::size_t threads) {
        const signals_blocked blocked;
        return std::make_unique<ms::thread_pool>(threads);
    }
    static bool interrupted() { return postponed_signal() != 0; }

    /// Reads the text and says what will be measured.
    void prepare(const gguf& file, const llama& model) {
        std::size_t context = 0;
        sequences_ = read_sequences(o_, file, context, model.config().vocabulary);
        found_.length = std::ranges::max(sequences_, {}, &sequence::size).size();
        if (found_.length < shortest) {
            throw std::runtime_error("--paper needs a sequence of at least " + std::to_string(shortest) +
                                     " tokens, the longest has " + std::to_string(found_.length));
        }
        print_notes(file, model, sequences_);
        about_ = provenance_of(o_, file, model, sequences_, context, std::time(nullptr));
        const tokenizer words = read_tokenizer(file);
        for (const sequence& s : sequences_) {
            if (s.size() != found_.length) continue;  // a share of a shorter context is another k
            token_classes_.push_back(paper_classes_of(words, s));
        }
        if (model.config().replaced) found_.no_retention = "cells serve some heads of this model";
        if (o_.quiet) return;
        print_paragraph(std::cout, style_,
                        "Transformers are Multi-State RNNs (Oren et al. 2024, arXiv 2401.06104) on " + about_.model +
                            " and " + about_.text + ": " + std::to_string(sequences_.size()) + " sequences of up to " +
                            std::to_string(found_.length) + " tokens, " + grouped(count_predictions(sequences_)) +
                            " tokens predicted, exact prefill, f32 cache. The paper measured LLaMA-2-7B with a context "
                            "of 4096 on PG-19. Compare numbers at the same share of the context. ±: one standard "
                            "error, paired by sequence. A claim holds if its measure is within its bounds at every "
                            "size by more than two standard errors. The paper says its claims in words; the bounds "
                            "are this program's.");
    }

    /// By row of paper_policies. Says on standard error what cannot be had.
    std::vector<std::vector<planned>> plan(const llama& model) {
        std::vector<std::vector<planned>> rows;
        for (const paper_policy& policy : paper_policies) {
            rows.emplace_back();
            for (std::size_t i = 0; i < paper_parts.size(); ++i) {
                const std::size_t k = found_.states(paper_parts[i]);
                if (policy.spec == shorter_context_name) {
                    rows.back().push_back({i, shorter_context(k, o_.block)});
                    continue;
                }
                const setting s{.policy = parse_policies(policy.spec).front(), .states = k, .block = o_.block};
                try {
                    check(model, s);
                    rows.back().push_back({i, s});
                } catch (const std::invalid_argument& problem) {
                    std::cerr << "perplexity: skipped " << policy.spec << " at " << problem.what() << '\n';
                    skipped_ = true;
                }
            }
        }
        return rows;
    }

    void measure_perplexities(const llama& model, const std::vector<std::vector<planned>>& rows) {
        std::size_t settings = 1;
        for (const auto& row : rows) settings += row.size();
        progress_bar bar(settings * count_tokens(sequences_), o_.quiet);
        bar_ = &bar;
        const setting full{.policy = parse_policies("full").front(), .states = 1, .block = o_.block};
        run(model, {&full, 1}, false, [&](std::size_t, measurement m) { found_.full = std::move(m); });
        std::optional<paper_perplexities> table;
        for (std::size_t r = 0; r < rows.size() && found_.full && !interrupted(); ++r) {
            bar.clear();
            if (!table && !o_.quiet) table.emplace(begin_table());
            std::vector<setting> settings_of_row;
            for (const planned& p : rows[r]) settings_of_row.push_back(p.what);
            const bool traced = paper_policies[r].spec == "tova" && found_.no_retention.empty();
            run(model, settings_of_row, traced, [&](std::size_t i, measurement m) {
                const std::size_t column = rows[r][i].column;
                if (traced) analyze(m, column, settings_of_row[i]);
                found_.rows[r][column] = std::move(static_cast<outcome&>(m));
            });
            bar.clear();
            if (table) table->add(r);
            if (json_ && json_->replaces()) save_json(false);
        }
        bar_ = nullptr;
        if (!o_.quiet) std::cout << '\n';
    }

    paper_perplexities begin_table() {
        print_heading(std::cout, style_, "1. Table 3: perplexity by policy and k");
        print_paragraph(std::cout, style_,
                        "Full has " + fixed(found_.full->perplexity(), 2) + " here, " +
                            fixed(paper_full_perplexity, 2) +
                            " in the paper. h2o decides per KV head, tova per layer; +1 and +4 are sinks; "
                            "shorter_context, the paper's Baseline, is full on pieces of k tokens, "
                            "each of which begins with the first token of the sequence.");
        return {std::cout, style_, found_};
    }

    void run(const llama& model, std::span<const setting> settings, bool forgotten, auto&& deliver) {
        const watch w{.forgotten = forgotten,
                      .progress = [&](std::size_t tokens) { bar_->advance(tokens); },
                      .stop = interrupted};
        if (!settings.empty()) bar_->begin(name_of(settings.front()));
        measure_all(model, sequences_, settings, w, [&](finished f) {
            if (f.index + 1 < settings.size()) bar_->begin(name_of(settings[f.index + 1]));
            if (!f.result) return failures_.push_back(f.failure);
            deliver(f.index, std::move(*f.result));
        });
    }

    /// What tova retained at a size of the paper's analysis, in sequences of the whole context.
    void analyze(const measurement& m, std::size_t column, const setting& what) {
        constexpr std::size_t first = paper_parts.size() - paper_table_1_parts.size();
        if (column < first) return;
        std::vector<ms::lifetimes> lives;
        for (std::size_t i = 0; i < sequences_.size(); ++i) {
            if (sequences_[i].size() != found_.length) continue;
            const ms::lifetimes_shape shape{about_.layers, about_.kv_heads, found_.length};
            lives.push_back(retained_of(what, m, shape, i).lives);
        }
        found_.retained[column - first] = retention_of(lives, token_classes_, what.states);
    }

    void measure_batches(llama& model) {
        batch_plan plan;
        for (const std::size_t part : paper_table_1_parts) plan.states.push_back(found_.states(part));
        progress_bar bar(steps_of(plan), o_.quiet);
        bar.begin("decoding in batches");
        const auto text = std::ranges::find(sequences_, found_.length, &sequence::size);
        try {
            found_.batches = demo::measure_batches(
                model, *text, plan, {.progress = [&](std::size_t steps) { bar.advance(steps); }, .stop = interrupted});
        } catch (const std::bad_alloc&) {
            found_.no_batches = "there is not enough memory";
        } catch (const std::exception& problem) {  // what was measured before is still printed
            found_.no_batches = problem.what();
        }
    }

    void print_conclusions() {
        std::vector<claim> claims;
        const auto add = [&](std::vector<claim> more) {
            if (interrupted()) std::erase_if(more, [](const claim& c) { return c.reason == "not measured"; });
            if (!o_.quiet) print_claims(std::cout, style_, more);
            claims.insert(claims.end(), more.begin(), more.end());
        };
        if (!o_.quiet) {
            print_paragraph(std::cout, style_, "Percent above full, here and in the paper:");
            print_above_full(std::cout, style_, found_);
            std::cout << '\n';
        }
        add(perplexity_claims(found_));
        if (!o_.quiet) print_batch_section();
        add(batch_claims(found_));
        if (!o_.quiet) print_retention_section();
        add(retention_claims(found_));
        if (!o_.quiet && !claims.empty()) print_summary(std::cout, style_, claims);
        claims_ = std::move(claims);
    }

    void print_batch_section() {
        print_heading(std::cout, style_, "2. Table 1: decoding in a fixed memory");
        if (found_.batches.empty()) {
            print_paragraph(std::cout, style_,
                            "Not measured: " + (found_.no_batches.empty() ? "interrupted" : found_.no_batches) + ".");
            return;
        }
        print_paragraph(
            std::cout, style_,
            "Sequences of " + std::to_string(found_.length) +
                " tokens are decoded together under tova, one token each per step of the whole model, with as many "
                "caches as fit in the memory of 8 full ones. ms / step is the mean over four points of the sequence, "
                "then the median over the turns. The sizes take turns, so a disturbance meets all of them. Throughput "
                "is tokens per second divided by full's. The paper used a V100.");
        print_batches(std::cout, style_, found_);
        std::cout << '\n';
        if (const std::string limit = throughput_parts(found_); !limit.empty()) {
            print_paragraph(std::cout, style_, limit);
        }
    }

    void print_retention_section() {
        print_heading(std::cout, style_, "3. Table 2: which tokens tova keeps");
        if (std::ranges::none_of(found_.retained, [](const auto& r) { return r.has_value(); })) {
            print_paragraph(
                std::cout, style_,
                "Not measured: " + (found_.no_retention.empty() ? "interrupted" : found_.no_retention) + ".");
            return;
        }
        print_paragraph(std::cout, style_,
                        "Over " + std::to_string(token_classes_.size()) +
                            " sequences of the whole length. Steps: in how many steps a token is attended, its own "
                            "included. Their average follows from k and the length, whatever is kept; so each class "
                            "is compared with that average. Recent states are among the newest k positions. k states "
                            "drawn at random have some of those, too.");
        print_retention(std::cout, style_, found_);
        std::cout << '\n';
    }

    void save_json(bool complete) {
        if (!json_) return;
        if (claims_.empty()) {
            for (const auto& some : {perplexity_claims(found_), batch_claims(found_), retention_claims(found_)}) {
                claims_.insert(claims_.end(), some.begin(), some.end());
            }
        }
        write_paper_json(json_->stream(), about_, found_, claims_, complete);
        json_->commit();
        claims_.clear();
    }

    const options& o_;
    paper_style style_;
    std::optional<output_file> json_;
    provenance about_;
    std::vector<sequence> sequences_;
    std::vector<std::vector<std::size_t>> token_classes_;  // classes of the tokens of each sequence of the whole length
    paper_findings found_;
    std::vector<claim> claims_;
    std::vector<std::string> failures_;
    progress_bar* bar_ = nullptr;  // while something is measured
    bool skipped_ = false;
};

}  // namespace

int measure_paper(const options& o) {
    check_files(o);
    return paper_session(o).measure_and_print();
}

}  // namespace demo
