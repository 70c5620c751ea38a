/* SPDX-License-Identifier: MIT */
/* What the kernel knows of a TCP connection: TCP_INFO (bytes since Linux 4.1) and the queue's length. */
#include "transport/traffic.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

bool traffic_read(int fd, struct traffic *traffic)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);
	int queued = 0;

	*traffic = (struct traffic){0};
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    len < offsetof(struct tcp_info, tcpi_segs_out))
		return false;
	(void)ioctl(fd, SIOCOUTQ, &queued);
	traffic->received = info.tcpi_bytes_received;
	traffic->acked = info.tcpi_bytes_acked;
	traffic->under_way = queued > 0 ? (uint64_t)queued : 0;
	traffic->unsent = info.tcpi_notsent_bytes;
	traffic->packet = info.tcpi_snd_mss;
	traffic->rtt_us = info.tcpi_rtt;
	return true;
}
