// A team of threads that run one function together.
#pragma once
#include <atomic>
#include <cstdint>

struct Member;  // what a function of the team is given

typedef void (*TeamFunction)(void *argument, Member &member);

constexpr int MOST = 128;  // members of a team
constexpr int SETS = 3;    // of counters, used in turn: one is in use, one may still be read, one is being cleared

struct alignas(64) Counter {
    std::atomic<int64_t> taken{0};
};

struct Shared {
    alignas(64) std::atomic<int> arrived{0};
    alignas(64) std::atomic<int> round{0};
    Counter counters[SETS][MOST];
};

struct Member {
    int index, size;
    Shared *shared;
    int phase = 0;

    void barrier();

    // Every index of 0..count-1 goes to exactly one member; all of them must come by. Each takes a range of neighbours,
    // in order, then what others have left: memory is read in long runs, and nobody waits for a member that was held up.
    // Ends with a barrier.
    template <class Work> void each(int64_t count, Work work) {
        Counter *counters = shared->counters[phase % SETS];
        shared->counters[(phase + 1) % SETS][index].taken.store(0, std::memory_order_relaxed);
        phase++;
        for (int turn = 0; turn < size; turn++) {
            int from = (index + turn) % size;
            int64_t start = count * from / size, end = count * (from + 1) / size;
            if (start == end) continue;
            for (int64_t i; (i = start + counters[from].taken.fetch_add(1, std::memory_order_relaxed)) < end;) work(i);
        }
        barrier();
    }
};

void run_team(int threads, TeamFunction function, void *argument);
