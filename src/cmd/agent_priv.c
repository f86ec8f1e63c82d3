#include "cmd/agent_priv.h"

#include <cap-ng.h>
#include <linux/bpf.h>
#include <pwd.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define NOBODY 65534 /* the kernel's overflow uid, where there is no such name */

int priv_user_find(const char *name, struct priv_user *ret)
{
	const struct passwd *p;

	errno = 0;
	p = getpwnam(name ? name : "nobody");
	if (!p && name)
		return errno && errno != ENOENT ? -errno : -ENOENT;
	*ret = p ? (struct priv_user){ p->pw_uid, p->pw_gid } : (struct priv_user){ NOBODY, NOBODY };
	return 0;
}

/*
 * What an agent that was taken over could use to get further: other programs, other processes, the
 * kernel's larger doors. A list of what is denied, since sinks bring libraries whose needs are not ours
 * to know; network and files stay open and are bounded by the user.
 */
static const int denied[] = {
	SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev), SCMP_SYS(process_madvise), SCMP_SYS(pidfd_getfd), SCMP_SYS(pidfd_open), SCMP_SYS(kcmp),
	SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(fsopen), SCMP_SYS(fsmount), SCMP_SYS(fspick),
	SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(mount_setattr), SCMP_SYS(setns), SCMP_SYS(unshare), SCMP_SYS(init_module),
	SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(reboot),
	SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup),
	SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register), SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key),
	SCMP_SYS(open_by_handle_at), SCMP_SYS(name_to_handle_at), SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(setreuid),
	SCMP_SYS(setregid), SCMP_SYS(setresuid), SCMP_SYS(setresgid), SCMP_SYS(setgroups), SCMP_SYS(setfsuid), SCMP_SYS(setfsgid),
	SCMP_SYS(capset), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime), SCMP_SYS(clock_adjtime), SCMP_SYS(adjtimex),
	SCMP_SYS(sethostname), SCMP_SYS(setdomainname), SCMP_SYS(acct), SCMP_SYS(quotactl), SCMP_SYS(personality), SCMP_SYS(syslog),
	SCMP_SYS(vhangup), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(modify_ldt), SCMP_SYS(mknod), SCMP_SYS(mknodat),
	SCMP_SYS(lookup_dcookie), SCMP_SYS(fanotify_init), SCMP_SYS(move_pages), SCMP_SYS(migrate_pages), SCMP_SYS(mbind),
};

/* bpf(2): reading and writing the maps that we hold, taking the meter off its hook and putting it back. Nothing new. */
static const int bpf_allowed[] = {
	BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY, BPF_OBJ_GET_INFO_BY_FD,
	BPF_MAP_LOOKUP_AND_DELETE_ELEM, BPF_MAP_LOOKUP_BATCH, BPF_LINK_UPDATE,
};
#define BPF_COMMANDS 64 /* denied one by one up to here, all at once above; there are 38 today */

static int bpf_deny_one(scmp_filter_ctx ctx, enum scmp_compare how, uint64_t cmd)
{
	const struct scmp_arg_cmp arg = { .arg = 0, .op = how, .datum_a = cmd, .datum_b = 0 };

	return seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(bpf), 1, &arg);
}

static int bpf_deny(scmp_filter_ctx ctx)
{
	int r = bpf_deny_one(ctx, SCMP_CMP_GE, BPF_COMMANDS);

	for (int cmd = 0; cmd < BPF_COMMANDS && r == 0; cmd++) {
		bool ours = false;

		for (size_t i = 0; i < ARRAY_SIZE(bpf_allowed); i++)
			ours |= bpf_allowed[i] == cmd;
		if (!ours)
			r = bpf_deny_one(ctx, SCMP_CMP_EQ, (uint64_t)cmd);
	}
	return r;
}

static int filter_load(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int r = ctx ? bpf_deny(ctx) : -ENOMEM;

	for (size_t i = 0; i < ARRAY_SIZE(denied) && r == 0; i++) {
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), denied[i], 0);
		if (r == -EDOM || r == -EINVAL)
			r = 0; /* this architecture has no such call */
	}
	if (r == 0)
		r = seccomp_load(ctx);
	if (ctx)
		seccomp_release(ctx);
	return r;
}

int priv_drop(const struct priv_user *user, bool keep_bpf, const char **ret_step)
{
	const struct rlimit none = { 0, 0 };
	int r;

	*ret_step = "turning core dumps off";
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;

	*ret_step = "changing the user";
	capng_clear(CAPNG_SELECT_ALL);
	if (keep_bpf && capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_BPF) < 0)
		return -EPERM;
	if (geteuid() == 0) {
		if (capng_change_id((int)user->uid, (int)user->gid, CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING) != 0)
			return -EPERM;
	} else {
		*ret_step = "dropping capabilities";
		if (capng_apply(CAPNG_SELECT_CAPS) < 0)
			return -EPERM;
	}
	*ret_step = "forbidding new privileges";
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;

	*ret_step = "installing the seccomp filter";
	r = filter_load();
	return r;
}
