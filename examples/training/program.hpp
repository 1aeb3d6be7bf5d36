// What main() of the training programs does around the program.
//
//     int main(int count, char** arguments) {
//         return training::run_program("selective_copy", [&] { … return 0; });
//     }
#pragma once

#include <exception>
#include <iostream>
#include <new>
#include <stdexcept>

#include "output_file.hpp"

namespace training {

/// Calls run(), which returns the exit code. What it throws becomes one line on standard error, and exit code 1.
template <class Run>
int run_program(const char* name, Run run) {
    demo::open_standard_descriptors();
    demo::handle_signals();
    try {
        const int code = run();
        if (!std::cout.flush()) throw std::runtime_error("standard output: cannot be written");
        return code;
    } catch (const std::bad_alloc&) {
        std::cerr << name << ": not enough memory\n";
    } catch (const std::exception& error) {
        std::cerr << name << ": " << error.what() << '\n';
    }
    return 1;
}

}  // namespace training
