// Compiled by tcc in the guest and outside: needs no library. Prints hashes of what it works out.
typedef unsigned char u8;
typedef unsigned long u64;

static long Call(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c)
                   : "rcx", "r11", "memory");
  return result;
}

static u64 Hash(u64 hash, const void* data, u64 size) {
  const u8* bytes = data;
  for (u64 i = 0; i < size; ++i) hash = (hash ^ bytes[i]) * 0x100000001b3;
  return hash;
}

static void Print(const char* name, u64 value) {
  char line[64];
  int at = 0;
  while (name[at]) {
    line[at] = name[at];
    ++at;
  }
  line[at++] = ' ';
  for (int shift = 60; shift >= 0; shift -= 4) line[at++] = "0123456789abcdef"[value >> shift & 15];
  line[at++] = '\n';
  Call(1, 1, (long)line, at);
}

static u64 g_random = 88172645463325252;
static u64 Random(void) {
  g_random ^= g_random << 13;
  g_random ^= g_random >> 7;
  g_random ^= g_random << 17;
  return g_random;
}

static int g_numbers[4096];

static int ByValue(int a, int b) { return a < b ? -1 : a > b; }
static int ByLowByte(int a, int b) { return ByValue(a & 255, b & 255); }

static void Sort(int* first, int* last, int (*compare)(int, int)) {
  if (last - first < 2) return;
  const int pivot = first[(last - first) / 2];
  int *left = first, *right = last - 1;
  while (left <= right) {
    while (compare(*left, pivot) < 0) ++left;
    while (compare(*right, pivot) > 0) --right;
    if (left > right) break;
    const int other = *left;
    *left++ = *right;
    *right-- = other;
  }
  Sort(first, right + 1, compare);
  Sort(left, last, compare);
}

struct Body {
  double at[3], speed[3], mass;
  float heat;
};

static void Move(struct Body* bodies, int count) {
  for (int i = 0; i < count; ++i)
    for (int j = 0; j < count; ++j) {
      double square = 0.01;
      for (int k = 0; k < 3; ++k) {
        const double distance = bodies[j].at[k] - bodies[i].at[k];
        square += distance * distance;
      }
      for (int k = 0; k < 3; ++k)
        bodies[i].speed[k] += (bodies[j].at[k] - bodies[i].at[k]) * bodies[j].mass / square * 0.001;
      bodies[i].heat += (float)(1.0 / square);
    }
  for (int i = 0; i < count; ++i)
    for (int k = 0; k < 3; ++k) bodies[i].at[k] += bodies[i].speed[k];
}

static long double Series(int terms) {
  long double sum = 0, sign = 1;
  for (int i = 0; i < terms; ++i, sign = -sign) sum += sign / (2 * i + 1);
  return sum * 4;
}

static int Ackermann(int m, int n) {
  if (m == 0) return n + 1;
  return Ackermann(m - 1, n == 0 ? 1 : Ackermann(m, n - 1));
}

void _start(void) {
  for (int i = 0; i < 4096; ++i) g_numbers[i] = (int)Random();
  Sort(g_numbers, g_numbers + 4096, ByValue);
  Print("sorted", Hash(0, g_numbers, sizeof(g_numbers)));
  Sort(g_numbers, g_numbers + 4096, ByLowByte);
  for (int i = 0; i < 4096; ++i) g_numbers[i] &= 255;
  Print("by low byte", Hash(0, g_numbers, sizeof(g_numbers)));

  struct Body bodies[6];
  for (int i = 0; i < 6; ++i) {
    bodies[i].mass = (double)(long)(Random() % 1000) / 100;
    bodies[i].heat = 0;
    for (int k = 0; k < 3; ++k) {
      bodies[i].at[k] = (double)(long)(Random() >> 40) / 1e6;
      bodies[i].speed[k] = 0;
    }
  }
  for (int i = 0; i < 500; ++i) Move(bodies, 6);
  u64 hash = 0;
  for (int i = 0; i < 6; ++i) {
    hash = Hash(hash, bodies[i].at, sizeof(bodies[i].at));
    hash = Hash(hash, &bodies[i].heat, sizeof(bodies[i].heat));
  }
  Print("bodies", hash);

  const long double pi = Series(100000);
  Print("series", Hash(0, &pi, 10));
  Print("ackermann", (u64)Ackermann(2, 300));
  u64 quotients = 0;
  for (int i = 0; i < 10000; ++i) quotients = quotients * 31 + Random() / (Random() >> 33 | 1);
  Print("quotients", quotients);
  Call(60, 0, 0, 0);
}
