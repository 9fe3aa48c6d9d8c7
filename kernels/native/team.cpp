#include "team.h"

#include <mutex>
#include <thread>

#include "longhand.h"

namespace {

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

constexpr int SPINS = 20000;  // then the core is given up: another process may need it to let a member get here

// Three functions of the OpenMP runtime that torch runs on. Threads of our own would fight its threads, which spin for
// some milliseconds behind each of torch's parallel loops.
typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);
typedef int (*Number)();
Parallel parallel = nullptr;
Number thread_number = nullptr, team_size = nullptr;

struct Call {
    TeamFunction function;
    void *argument;
    Shared *shared;
};

void begin(void *given) {
    Call &call = *(Call *)given;
    Member member{thread_number(), team_size(), call.shared};
    call.function(call.argument, member);
}

std::mutex calls;  // one call at a time has the counters

}  // namespace

void Member::barrier() {
    if (size == 1) return;
    int round = shared->round.load(std::memory_order_acquire);
    if (shared->arrived.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
        shared->arrived.store(0, std::memory_order_relaxed);
        shared->round.fetch_add(1, std::memory_order_release);
        return;
    }
    for (int spin = 0; shared->round.load(std::memory_order_acquire) == round; spin++) {
        if (spin < SPINS) relax();
        else std::this_thread::yield();
    }
}

void run_team(int threads, TeamFunction function, void *argument) {
    static Shared shared;
    std::lock_guard<std::mutex> lock(calls);
    for (auto &set : shared.counters)
        for (int i = 0; i < MOST; i++) set[i].taken.store(0, std::memory_order_relaxed);
    shared.arrived.store(0);
    if (threads <= 1 || !parallel) {
        Member member{0, 1, &shared};
        function(argument, member);
        return;
    }
    Call call{function, argument, &shared};
    parallel(begin, &call, threads < MOST ? threads : MOST, 0);
}

extern "C" void lh_use_openmp(void *parallel_, void *thread_number_, void *team_size_) {
    parallel = (Parallel)parallel_;
    thread_number = (Number)thread_number_;
    team_size = (Number)team_size_;
}
