"""What code of packages tries, wherever it gets to run: names in capitals are of what there is to attack."""

# Each is a function of the package that returns what it got, or fails.
ATTACKS = """
import ctypes, glob, json, os, signal, socket, subprocess, sys, time

def write_the_shell_profile():
    open(HOME + "/.bashrc", "a").write("touch pwned\\n")
    return "written"

def write_the_aws_config():
    os.makedirs(HOME + "/.aws", exist_ok=True)
    open(HOME + "/.aws/config", "w").write("[default]\\ncredential_process = touch pwned\\n")
    return "written"

def read_netrc():
    return open(HOME + "/.netrc").read()

def read_other_wheels():
    return len(glob.glob(HOME + "/.cache/wheels/**/*.whl", recursive=True)) or 1 / 0

def plant_in_the_cache():
    open(HOME + "/.cache/planted", "w").close()
    return "written"

def write_beside_the_output():
    open(OUT + "/planted", "w").close()
    return "written"

def write_the_zip():
    [zip] = glob.glob(OUT + "/.layer.zip.*.part")
    os.close(os.open(zip, os.O_WRONLY))
    return "opened"

def see_other_temporary_files():
    return open(TEMPORARY + "/anothers").read()

def write_the_systems_temporary_folder():
    path = "/var/tmp/" + MARK
    open(path, "w").close()
    os.unlink(path)
    return "written"

def connect_to_a_unix_socket():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(HOME + "/agent.sock")
        return "connected"

def connect_to_an_abstract_socket():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\\0" + MARK)
        return "connected"

def connect_to_loopback():
    return socket.create_connection(("127.0.0.1", TCP), 5) and "connected"

def send_a_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"stolen", ("127.0.0.1", UDP))
        return "sent"

def serve_others():
    with socket.socket() as one:
        one.bind(("127.0.0.1", PORT))
        one.listen()
        one.settimeout(2)
        return one.accept() and "served"

def signal_others():
    own = {os.getpid(), 1 if os.getpid() == 2 else 0}
    found = []
    for pid in {os.getppid(), *map(int, filter(str.isdecimal, os.listdir("/proc")))} - own:
        try:
            os.kill(pid, 0)
            found.append(pid)
        except OSError:
            pass
    return found or 1 / 0

def read_the_builders_environment():
    found = []
    for pid in {os.getppid(), *map(int, filter(str.isdecimal, os.listdir("/proc")))} - {os.getpid()}:
        try:
            found.append(open(f"/proc/{pid}/environ", "rb").read().count(SECRET))
        except OSError:
            pass
    return sum(found) or 1 / 0

def leave_shared_memory():
    libc = ctypes.CDLL(None, use_errno=True)
    one = libc.shmget(SEGMENT, 4096, 0o1600)
    return one if one >= 0 else 1 / 0

def have_namespaces():
    return ctypes.CDLL(None).unshare(0x10000000) == 0 or 1 / 0

def leave_a_process_behind():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", MARK])
        os._exit(0)
    os.wait()
    time.sleep(0.2)

def tried(module):
    told = {}
    for name, attack in list(module.items()):
        if callable(attack) and getattr(attack, "__code__", None) and name != "tried":
            try:
                told[name] = attack()
            except Exception as error:
                told[name] = None
    return told

"""
