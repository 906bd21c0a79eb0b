/* The load of the relay benchmark: pairs of phones that send G.711 packets of 20 ms and take each other's.
 *
 *   phones COUNT SECONDS
 *
 * Binds COUNT sockets on free ports of 127.0.0.1, prints their ports in one line, reads as many relay ports from stdin,
 * sends 50 packets a second from each (the first second is not counted), and prints one JSON line: packets sent and
 * received in the counted time, and the delay through the relay in microseconds. Each packet's payload begins with the
 * time it left at.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 256, HEADER = 12, PAYLOAD = 160, FRAME_NS = 20000000, BUCKETS = 200000 };

static uint32_t delays[BUCKETS + 1]; /* by microsecond */

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void send_one(int fd, int phone, int64_t frame) {
    unsigned char packet[HEADER + PAYLOAD];
    uint16_t sequence = htons((uint16_t)frame);
    uint32_t timestamp = htonl((uint32_t)(frame * PAYLOAD)), ssrc = htonl(0x10000 + phone);
    int64_t at = now();
    memset(packet, 0xd5, sizeof packet);
    packet[0] = 0x80;
    packet[1] = 8;
    memcpy(packet + 2, &sequence, 2);
    memcpy(packet + 4, &timestamp, 4);
    memcpy(packet + 8, &ssrc, 4);
    memcpy(packet + HEADER, &at, 8);
    send(fd, packet, sizeof packet, 0);
}

static long quantile(long total, double part) {
    long seen = 0;
    for (int i = 0; i <= BUCKETS; i++)
        if ((seen += delays[i]) > total * part)
            return i;
    return BUCKETS;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    int count = atoi(argv[1]);
    double seconds = atof(argv[2]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int *fds = calloc(count, sizeof *fds), epoll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof at;
        fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        if (fds[i] < 0 || bind(fds[i], (struct sockaddr *)&at, sizeof at)) {
            perror("bind");
            return 1;
        }
        getsockname(fds[i], (struct sockaddr *)&at, &length);
        printf("%d ", ntohs(at.sin_port));
        struct epoll_event want = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &want);
    }
    printf("\n");
    fflush(stdout);
    for (int i = 0; i < count; i++) {
        int port;
        if (scanf("%d", &port) != 1)
            return 1;
        struct sockaddr_in to = {
            .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        connect(fds[i], (struct sockaddr *)&to, sizeof to);
    }
    int64_t begin = now(), counted = begin + 1000000000, end = counted + (int64_t)(seconds * 1e9), next = 0;
    long sent = 0, received = 0;
    int said = 0;
    for (;;) {
        int64_t at = now();
        if (!said && at >= counted) {
            puts("counted");
            fflush(stdout);
            said = 1;
        }
        if (said == 1 && at >= end) {
            puts("over");
            fflush(stdout);
            said = 2;
        }
        if (at >= end + 200000000)
            break;
        /* Packet number `next` is phone next % count in frame next / count; they leave evenly spread over each 20 ms. */
        for (; next * FRAME_NS / count + begin <= at && at < end; next++) {
            send_one(fds[next % count], next % count, next / count);
            sent += at >= counted;
        }
        struct epoll_event ready[BATCH];
        int many = epoll_wait(epoll, ready, BATCH, 0);
        for (int i = 0; i < many; i++) {
            unsigned char packet[2048];
            int64_t left;
            if (recv(fds[ready[i].data.u32], packet, sizeof packet, 0) < HEADER + 8)
                continue;
            memcpy(&left, packet + HEADER, 8);
            if (left < counted)
                continue;
            int64_t delay = (now() - left) / 1000;
            received++;
            delays[delay < 0 ? 0 : delay > BUCKETS ? BUCKETS : delay]++;
        }
        if (many == 0) {
            struct timespec rest = {0, 50000};
            nanosleep(&rest, NULL);
        }
    }
    printf("{\"sent\": %ld, \"received\": %ld, \"p50\": %ld, \"p99\": %ld, \"worst\": %ld}\n", sent, received,
           quantile(received, .5), quantile(received, .99), quantile(received, 1.0 - 1e-9));
    return 0;
}
