"""Who answers: the one way to talk to a model.

The protocol is the OpenAI HTTP API as vLLM speaks it, so a server is known by its URL and by nothing else:

    GET  /health                    200 when it can answer, 503 when it cannot
    GET  /v1/models                 the base under its names, and the adapters loaded on it, which name it as parent
    POST /v1/completions            prompt (text or token ids) → n choices; choice i is seeded with seed + i; with
                                    logprobs=0 how likely each of their tokens was, before the temperature; an answer
                                    ends where the context is full, as `length`, however many tokens were asked for
    POST /v1/chat/completions       the same from messages, through the template of the base
    POST /v1/load_lora_adapter      lora_name, lora_path
    POST /v1/unload_lora_adapter    lora_name; what is being answered is finished with the old weights
    POST /classify                  of a reward model, on a server of its own: texts or token ids → a score each
    POST /tokenize, /detokenize     token ids of a prompt or of messages, and back
    GET  /metrics, /version         vllm:num_requests_running and its sisters; who speaks

Our own versions are asked through `/v1/completions` with a prompt rendered here from the version's own template
(`template.py`) and `add_special_tokens: false`: what is served is what was trained, to the token. A refusal is
`{"error": {"message", "type", "param", "code"}}`, with vLLM's status and vLLM's sentence.

    client.py             the one client
    template.py           messages → prompt text, as transformers does it, without transformers
    model_folder.py       is this a model we can load, and which one is it
    model_server.py       one server process: started, watched, started again
    vllm_server.py        how vLLM is started, and what its last words mean
    adopted_server.py     one that somebody else runs
    choice.py             which of these it is, by settings and machine
    supervisor.py         all of them, brought to what is wanted
    place.py              those that answer for one base: the least loaded is asked
    server_with_adapters.py   one of them, and the versions on it
    turns.py              a device that they take in turns with runs
    pulse.py usage.py     how a server is doing; what each version was asked, and how fast it answered
    tether.py             a process that dies with the one that started it
    faithful.py           is what would be served what was trained
    whole_weights.py      weights that a run trained as a whole: read to the last byte where they look otherwise
    free_memory.py        how much memory a new process may take, in a container too
    adapter_check.py      may this adapter be put on this base
    base_layers.py        the layers of a base, and the adapter that changes none: how vLLM is asked for the base itself
    tensor_file.py        names and shapes in a file of weights
    text_stream.py        token ids → text, as they come
    embedded_server.py    our own small server: routes over the files below; only these import torch
    embedded_answering.py from a request to its reply, whole or streamed, while the client is there
    embedded_protocol.py  what a request may say, and how replies and refusals look
    embedded_scheduler.py the thread that owns the weights: rows join and leave between two steps
    embedded_model.py     weights, and the batch of rows that they answer
    embedded_reward.py    the routes of a reward model
    reward_scorer.py      a reward model: how good is this answer
    embedded_adapters.py  many adapters on one base, each row with its own

`tests/labeling/engines/test_contract.py` holds any server to this over HTTP: ours, a real vLLM, one given by its URL.
"""
