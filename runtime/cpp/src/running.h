// Steps of a state: prepared, whole, or many at once.
#pragma once

#include "kernels.h"

namespace multires {

// Does all of the next step that does not depend on its inputs. Commits first.
void prepare(State& state) noexcept;
// Pushes what a prepared step has left. A preparation stays.
void commit(State& state) noexcept;
// Commits, and forgets a preparation.
void settle(State& state) noexcept;
// One step. In a prepared state, what is pushed is left to commit.
void step(State& state, const Call& call) noexcept;
// Many steps.
void run(State& state, const Call& call, int64_t steps) noexcept;

}  // namespace multires
