// The cells against PyTorch: torch_golden.py says how it computes outputs, states and gradients.
#include <fstream>
#include <map>
#include <sstream>
#include <string>

#include "recurrent/cells.hpp"

namespace recurrent_golden_test {

namespace ms = multistate;
using namespace recurrent;

struct golden_case {
    std::string cell, form;
    bool normalized = true;
    std::map<std::string, floats> numbers;

    bool log_space() const { return form == "log"; }
    ms::candidate candidate() const { return form == "linear" ? ms::candidate::linear : ms::candidate::positive; }
};

struct golden_file {
    std::size_t inputs = 0, units = 0;
    std::vector<std::size_t> lengths;
    std::vector<golden_case> cases;
};

golden_file read() {
    golden_file result;
    std::ifstream file(MULTISTATE_RECURRENT_FOLDER "/torch_golden.txt");
    for (std::string text; std::getline(file, text);) {
        std::istringstream line(text);
        std::string name;
        line >> name;
        if (name == "sizes") {
            line >> result.inputs >> result.units;
            for (std::size_t length = 0; line >> length;) result.lengths.push_back(length);
        } else if (name == "cell") {
            golden_case& one = result.cases.emplace_back();
            line >> one.cell >> one.form >> one.normalized;
        } else if (name != "#") {
            floats& numbers = result.cases.back().numbers[name];
            for (double x = 0; line >> x;) numbers.push_back(static_cast<float>(x));
        }
    }
    return result;
}

template <class Cell>
void check(const golden_file& file, const golden_case& golden, const typename Cell::shape_type& shape) {
    SCOPED_TRACE(golden.cell + " " + golden.form + (golden.normalized ? "" : " without normalization"));
    const auto& numbers = golden.numbers;
    const Cell cell(shape, numbers.at("parameters"));
    const text given{numbers.at("x"), numbers.at("initial"), file.lengths};
    const outcome forward = scan(cell, given, ms::serial{}, golden.log_space());
    expect_near(forward.out, numbers.at("out"), 2e-6, "out");
    expect_near(forward.state, numbers.at("state"), 2e-6, "state");
    const gradients gradient = backward(cell, given, forward, numbers.at("out_gradient"), numbers.at("state_gradient"));
    expect_near(gradient.x, numbers.at("x_gradient"), 2e-6, "x");
    expect_near(gradient.state, numbers.at("initial_gradient"), 2e-6, "initial state");
    expect_near(gradient.parameters, numbers.at("parameter_gradient"), 2e-6, "parameters");
}

TEST(recurrent_golden, cells_are_those_of_torch) {
    const golden_file file = read();
    ASSERT_EQ(file.cases.size(), 11u);
    for (const golden_case& one : file.cases) {
        if (one.cell == "gru") check<ms::gru>(file, one, {file.inputs, file.units});
        if (one.cell == "lstm") check<ms::lstm>(file, one, {file.inputs, file.units});
        if (one.cell == "min_gru") check<ms::min_gru>(file, one, {file.inputs, file.units, one.candidate()});
        if (one.cell == "min_lstm") {
            check<ms::min_lstm>(file, one, {file.inputs, file.units, one.candidate(), one.normalized});
        }
    }
}

}  // namespace recurrent_golden_test
