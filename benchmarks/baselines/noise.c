/* The noise mapping in C, one thread: what Numba's kernel is measured against. Compile with
   cc -O3 -march=native -ffp-contract=off -fno-math-errno -shared -fPIC. */
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { BATCH = 256 }; /* blocks at a time, so that the scratch stays in the first-level cache */

static void words(uint64_t key, uint64_t t, uint64_t block, uint32_t w[4][BATCH]) {
    for (int j = 0; j < BATCH; j++) {
        uint32_t c0 = (uint32_t)(block + j), c1 = (uint32_t)((block + j) >> 32), c2 = (uint32_t)t, c3 = (uint32_t)(t >> 32);
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        for (int round = 0; round < 10; round++) {
            uint64_t p0 = (uint64_t)c0 * 0xD2511F53u, p1 = (uint64_t)c2 * 0xCD9E8D57u;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, c1 = (uint32_t)p1;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1, c3 = (uint32_t)p0;
            k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
        }
        w[0][j] = c0, w[1][j] = c1, w[2][j] = c2, w[3][j] = c3;
    }
}

static inline float as_float(int32_t i) { float f; memcpy(&f, &i, 4); return f; }
static inline int32_t as_int(float f) { int32_t i; memcpy(&i, &f, 4); return i; }

static inline float radius(uint32_t word) {
    int32_t w = (int32_t)word;
    float f = ((float)w + 0.5f) * 0x1p-32f, u = f + as_float((w >> 31) & 0x3F800000);
    int32_t d = as_int(u) - 0x3F3504F3;
    float e = (float)(d >> 23), m = as_float((d & 0x007FFFFF) + 0x3F3504F3) - 1.0f, x = d >= 0 ? f : m, x2 = x * x;
    float low = (1.00000727f * x + -1.99999988f) + (0.499398172f * x + -0.666701198f) * x2;
    float high = (0.345016599f * x + -0.39800331f) + (0.202137873f * x + -0.324451566f) * x2;
    return sqrtf((low + high * (x2 * x2)) * x + e * -1.38629436f);
}

static void normals(uint32_t w[4][BATCH], float *z) {
    for (int half = 0; half < 2; half++)
        for (int j = 0; j < BATCH; j++) {
            int32_t a = (int32_t)w[2 + half][j];
            float r = radius(w[half][j]), y = (float)((int32_t)((uint32_t)a << 1) | 1) * 0x1p-31f, y2 = y * y;
            float s = ((((0.000151485132f * y2 + -0.00467376644f) * y2 + 0.0796896815f) * y2 + -0.645963728f) * y2
                       + 1.57079637f) * y;
            float c = (((0.000858190644f * y2 + -0.0208106283f) * y2 + 0.253650755f) * y2 + -1.23369825f) * y2
                      + 0.99999994f;
            z[4 * j + 2 * half] = r * as_float(as_int(c) ^ (a & INT32_MIN));
            z[4 * j + 2 * half + 1] = r * s;
        }
}

void add_noise(float *x, int64_t n, uint64_t key, uint64_t t, float sigma) {
    uint32_t w[4][BATCH];
    float z[4 * BATCH];
    for (int64_t done = 0; done < n; done += 4 * BATCH) {
        words(key, t, (uint64_t)done / 4, w);
        normals(w, z);
        int64_t size = n - done < 4 * BATCH ? n - done : 4 * BATCH;
        for (int64_t i = 0; i < size; i++) x[done + i] += sigma * z[i];
    }
}
