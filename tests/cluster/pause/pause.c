/* The first process of every pod: it holds the pod's namespaces, and buries orphans. `pause -v` says its
 * name and ends. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal) {
  (void)signal;
  _exit(0);
}

static void bury(int signal) {
  (void)signal;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

int main(int count, char **words) {
  static const char name[] = "pause of globus-auth's local cluster\n";
  if (count == 2 && strcmp(words[1], "-v") == 0) {
    return write(STDOUT_FILENO, name, sizeof name - 1) < 0;
  }
  signal(SIGINT, leave);
  signal(SIGTERM, leave);
  signal(SIGCHLD, bury);
  for (;;) {
    pause();
  }
}
