%% Runs inside the broker's node: makes and drops virtual hosts, and breaks queues, in milliseconds, where
%% each rabbitmqctl would start an Erlang machine of its own. Also reports when the broker is up.
%% @PORT@, @USER@ and @PASSWORD@ are filled in; one line a connection: the password, then a command.
Grant = fun(Vhost) ->
    rabbit_auth_backend_internal:set_permissions(
        <<"@USER@">>, Vhost, <<".*">>, <<".*">>, <<".*">>, <<"testkit">>)
end,
Run = fun
    ([<<"ping">>]) ->
        true = rabbit:is_running(),
        ok;
    ([<<"add">>, Vhost]) ->
        ok = rabbit_vhost:add(Vhost, <<"testkit">>),
        ok = Grant(Vhost);
    ([<<"user">>, User, Vhost, Configure, Write, Read]) ->
        %% An existing user already has this password.
        catch rabbit_auth_backend_internal:add_user(User, <<"@PASSWORD@">>, <<"testkit">>),
        ok = rabbit_auth_backend_internal:set_permissions(
            User, Vhost, Configure, Write, Read, <<"testkit">>);
    ([<<"eval">> | Words]) ->
        {ok, Tokens, _} = erl_scan:string(binary_to_list(iolist_to_binary(lists:join(" ", Words)))),
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        {value, Value, _} = erl_eval:exprs(Expressions, []),
        {ok, Value};
    ([<<"drop">>, Vhost]) ->
        rabbit_vhost:delete(Vhost, <<"testkit">>),
        ok
end,
Serve = fun(Socket) ->
    {ok, Line} = gen_tcp:recv(Socket, 0, 5000),
    [<<"@PASSWORD@">> | Command] = binary:split(string:trim(Line), <<" ">>, [global]),
    Answer = try Run(Command) of
        ok -> "ok";
        {ok, Answered} -> io_lib:format("ok ~0p", [Answered])
    catch
        _:Reason -> io_lib:format("~0p", [Reason])
    end,
    gen_tcp:send(Socket, [Answer, "\n"])
end,
spawn(fun() ->
    {ok, Listener} = gen_tcp:listen(@PORT@, [
        binary, {packet, line}, {active, false}, {reuseaddr, true}, {backlog, 128}, {ip, {127, 0, 0, 1}}]),
    (fun Accept() ->
        {ok, Socket} = gen_tcp:accept(Listener),
        gen_tcp:controlling_process(Socket, spawn(fun() -> Serve(Socket) end)),
        Accept()
    end)()
end).
