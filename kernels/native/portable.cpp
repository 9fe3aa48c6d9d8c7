#pragma GCC optimize("O2")  // -O3 takes four times as long to compile, for nothing here
#define LEVEL 0
#define NAME portable
#define TABLE portable_level
#include "level.h"
