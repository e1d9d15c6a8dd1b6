/* The program's side of control pages, with names that stay inside this library. */
#define CLIENT_API __attribute__((visibility("hidden")))
#include "../client.c"
