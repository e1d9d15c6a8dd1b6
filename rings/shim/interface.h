/* Questions about a network interface by its name, such as SIOCGIFMTU. */
#ifndef SHIM_INTERFACE_H
#define SHIM_INTERFACE_H

/* The original ioctl(), with the daemon's answer for a name that is one of its ports. */
int interface_ioctl(int fd, unsigned long request, void *argument);

#endif
