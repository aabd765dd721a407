"""What other people's WinRM clients see of the stand-in: the arguments are its port, the CA file, the user and the password."""

import json
import sys

from pypsrp.exceptions import AuthenticationError, WSManFaultError
from pypsrp.shell import Process, SignalCode, WinRS
from pypsrp.wsman import WSMan
from winrm.exceptions import InvalidCredentialsError
from winrm.protocol import Protocol

port, ca, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.stdin.readline().rstrip("\n")
seen = {}


def pywinrm(secret):
    return Protocol(
        endpoint=f"https://127.0.0.1:{port}/wsman",
        transport="basic",
        username=user,
        password=secret,
        ca_trust_path=ca,
    )


def pypsrp(secret):
    return WSMan("127.0.0.1", port=port, ssl=True, auth="basic", username=user, password=secret, cert_validation=ca)


# pywinrm: a shell, a command, its input in two pieces, its output and its status.
client = pywinrm(password)
shell = client.open_shell()
command = client.run_command(shell, "sort.exe")
client.send_command_input(shell, command, "b\n")
client.send_command_input(shell, command, "a\n", end=True)
stdout, _, status = client.get_command_output(shell, command)
client.cleanup_command(shell, command)
seen["pywinrm sort"] = [stdout.decode(), status]
command = client.run_command(shell, "cmd.exe", ["/c", "exit", "7"])
seen["pywinrm exit"] = client.get_command_output(shell, command)[2]
client.cleanup_command(shell, command)
command = client.run_command(shell, "unknown.exe")
seen["pywinrm unknown"] = client.get_command_output(shell, command)[2]
client.cleanup_command(shell, command)
client.close_shell(shell)
try:
    client.run_command(shell, "sort.exe")
    seen["pywinrm gone"] = "taken"
except Exception as error:  # Its kind depends on the version.
    seen["pywinrm gone"] = getattr(error, "fault_subcode", None) or str(error)
try:
    pywinrm("wrong").open_shell()
except InvalidCredentialsError:
    seen["pywinrm wrong password"] = "refused"

# pypsrp, the same, and faults by their numbers.
with pypsrp(password) as wsman, WinRS(wsman) as remote:
    process = Process(remote, "sort.exe")
    process.begin_invoke()
    process.send(b"d\n", end=False)
    process.send(b"c\n", end=True)
    process.end_invoke()
    process.signal(SignalCode.TERMINATE)
    seen["pypsrp sort"] = [process.stdout.decode(), process.rc]
    process = Process(remote, "cmd.exe", ["/c", "echo", "two words"])
    process.invoke()
    seen["pypsrp echo"] = [process.stdout.decode(), process.rc]
    process.signal(SignalCode.TERMINATE)
    process = Process(remote, "sort.exe")
    process.begin_invoke()
    process.send(b"x", end=True)
    try:
        process.send(b"y", end=True)
    except WSManFaultError as error:
        seen["pypsrp after the end"] = error.code
    process.signal(SignalCode.CTRL_C)
    gone = WinRS(wsman, id="00000000-0000-0000-0000-000000000000")
    gone._selector_set = remote._selector_set.__class__()
    gone._selector_set.add_option("ShellId", gone.id)
    try:
        gone.receive(command_id="1")
    except WSManFaultError as error:
        seen["pypsrp gone"] = error.code
try:
    with pypsrp("wrong") as wsman, WinRS(wsman):
        pass
except AuthenticationError:
    seen["pypsrp wrong password"] = "refused"

# The loader and a whole script, as any client would run them: what our own client sends.
line = sys.stdin.readline()
loader = json.loads(sys.stdin.readline())
client = pywinrm(password)
shell = client.open_shell()
command = client.run_command(shell, loader[0], loader[1:])
client.send_command_input(shell, command, line, end=True)
stdout, _, status = client.get_command_output(shell, command)
client.cleanup_command(shell, command)
client.close_shell(shell)
answer = next(text for text in stdout.decode().splitlines() if text.startswith('{"certdeploy"'))
seen["script"] = [json.loads(answer), status]
print(json.dumps(seen))
