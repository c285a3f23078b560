"""Injected faults on the real graph, judged on the wire: `make faults`.

    run ── trial ──┬─ graph     the nodes as processes: starts, signals, logs
                   ├─ hands     what injects: relays sensor topics, forges chunks, calls services
                   └─ wire      a process that hears every command and judges it (limits)
    contract       what is expected: hold times, and the words or codes of each reason
    families/      the faults, one file per family
    table          JSON and Markdown

Camera and joints of the simulated arm come out under truth/ and pass through `hands`, so that
every fault of a sensor is one function of a message. The monitor hears the truth. Nothing here
uses `worldvla_ros.robot`: limits are read from the description, kinematics are its own.
"""
