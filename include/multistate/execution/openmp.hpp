#pragma once

// An executor for engines that use OpenMP: OpenMP's threads run the library's tasks.
//
//     #include <multistate/execution/openmp.hpp>              // not part of multistate.hpp: it needs -fopenmp
//
//     ms::step(layer, position, inputs, out, scratch, ms::openmp{});
#ifndef _OPENMP
#error "multistate/execution/openmp.hpp: compile with OpenMP (-fopenmp; in CMake link OpenMP::OpenMP_CXX)"
#endif

#include <cstddef>

#include "multistate/execution/executor.hpp"

namespace multistate { inline namespace MULTISTATE_TARGET {

/// Uses as many threads as OpenMP is set to (OMP_NUM_THREADS, omp_set_num_threads). Each thread takes the same tasks in
/// each run of the same size: the scratch of a KV head stays in the cache of one core. With dynamic scheduling, steps
/// at 256 states took 1.2 to 1.5 times as long. Inside a parallel region the tasks stay on the calling thread, which is
/// OpenMP's default for nested regions.
struct openmp {
    void run(std::size_t n, auto&& task) const noexcept {
#pragma omp parallel for schedule(static) if (n > 1)
        for (std::size_t i = 0; i < n; ++i) task(i);
    }
};
static_assert(executor<const openmp>);

}}  // namespace multistate::MULTISTATE_TARGET
