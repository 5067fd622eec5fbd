/* LightGBM's own C interface on one thread: one row at a time with the fast call, and all rows in one batch.
   Started by against_lightgbm.py; prints one line of JSON. A batch is also given in CPU time of the thread: other processes
   cannot make that longer. Rows are raw doubles, row by row. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef void *BoosterHandle;
typedef void *FastConfigHandle;
extern int LGBM_BoosterCreateFromModelfile(const char *, int *, BoosterHandle *);
extern int LGBM_BoosterPredictForMatSingleRowFastInit(BoosterHandle, int, int, int, int, int32_t, const char *, FastConfigHandle *);
extern int LGBM_BoosterPredictForMatSingleRowFast(FastConfigHandle, const void *, int64_t *, double *);
extern int LGBM_BoosterPredictForMat(BoosterHandle, const void *, int, int32_t, int32_t, int, int, int, int, const char *, int64_t *, double *);

static double now_us(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int rows = atoi(argv[3]), columns = atoi(argv[4]), rounds;
    double *x = malloc(sizeof(double) * rows * columns), *out = malloc(sizeof(double) * rows);
    FILE *f = fopen(argv[2], "rb");
    if (!x || !out || !f || fread(x, sizeof(double), (size_t)rows * columns, f) != (size_t)rows * columns) return 3;
    BoosterHandle booster;
    FastConfigHandle fast;
    if (LGBM_BoosterCreateFromModelfile(argv[1], &rounds, &booster)) return 4;
    const char *one_thread = "num_threads=1";
    if (LGBM_BoosterPredictForMatSingleRowFastInit(booster, 0, 0, -1, 1, columns, one_thread, &fast)) return 5;
    int64_t n;
    int passes = 30, batches = 60;
    double *single = malloc(sizeof(double) * rows * passes), *batch = malloc(sizeof(double) * batches);
    double *own = malloc(sizeof(double) * batches), sum = 0;
    for (int i = 0; i < rows; i++) LGBM_BoosterPredictForMatSingleRowFast(fast, x + (size_t)i * columns, &n, out);
    for (int p = 0; p < passes; p++)
        for (int i = 0; i < rows; i++) {
            double start = now_us(CLOCK_MONOTONIC);
            if (LGBM_BoosterPredictForMatSingleRowFast(fast, x + (size_t)i * columns, &n, out)) return 6;
            single[p * rows + i] = now_us(CLOCK_MONOTONIC) - start;
            sum += out[0];
        }
    for (int b = -1; b < batches; b++) {
        double start = now_us(CLOCK_MONOTONIC), cpu = now_us(CLOCK_THREAD_CPUTIME_ID);
        if (LGBM_BoosterPredictForMat(booster, x, 1, rows, columns, 1, 0, 0, -1, one_thread, &n, out)) return 7;
        if (b >= 0) batch[b] = now_us(CLOCK_MONOTONIC) - start, own[b] = now_us(CLOCK_THREAD_CPUTIME_ID) - cpu;
        sum += out[0];
    }
    qsort(single, (size_t)rows * passes, sizeof(double), ascending);
    qsort(batch, batches, sizeof(double), ascending);
    qsort(own, batches, sizeof(double), ascending);
    printf("{\"p50_us\": %.3f, \"p99_us\": %.3f, \"batch_p50_us\": %.1f, \"batch_cpu_us\": %.1f, \"sum\": %.6f}\n", single[rows * passes / 2],
           single[(size_t)rows * passes * 99 / 100], batch[batches / 2], own[batches / 2], sum);
    return 0;
}
