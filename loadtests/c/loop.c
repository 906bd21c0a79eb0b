/* The yardstick of the relay benchmark: a media relay that does nothing but relay.
 *
 *   loop FIRST COUNT      binds COUNT even ports of 127.0.0.1 from FIRST on; ports 2i and 2i+1 of the row are one call
 *
 * Each socket sends back to whoever wrote to it first. No checks, no RTP, no recording: what a packet costs at least.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 256, PACKET = 2048 };

struct leg {
    int fd, known;
    struct sockaddr_in peer;
};

static int listen_on(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at)) {
        perror("bind");
        exit(1);
    }
    return fd;
}

static void relay(struct leg *from, struct leg *to) {
    char packet[PACKET];
    struct sockaddr_in source;
    socklen_t length = sizeof source;
    ssize_t size = recvfrom(from->fd, packet, sizeof packet, 0, (struct sockaddr *)&source, &length);
    if (size < 12)
        return;
    if (!from->known) {
        from->peer = source;
        from->known = 1;
    }
    if (to->known)
        sendto(to->fd, packet, size, 0, (struct sockaddr *)&to->peer, sizeof to->peer);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    int first = atoi(argv[1]), count = atoi(argv[2]);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct leg *legs = calloc(count, sizeof *legs);
    int epoll = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        legs[i].fd = listen_on(first + 2 * i);
        struct epoll_event want = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, legs[i].fd, &want);
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[BATCH];
        int many = epoll_wait(epoll, ready, BATCH, -1);
        for (int i = 0; i < many; i++)
            relay(&legs[ready[i].data.u32], &legs[ready[i].data.u32 ^ 1]);
    }
}
