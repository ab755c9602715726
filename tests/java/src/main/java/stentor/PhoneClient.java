package stentor;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.common.util.concurrent.ListenableFuture;
import com.google.protobuf.BoolValue;
import com.google.protobuf.Empty;
import com.google.protobuf.Int32Value;
import com.google.protobuf.StringValue;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.okhttp.OkHttpChannelBuilder;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import java.io.FileInputStream;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Base64;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;
import nakama.api.NakamaGrpc;
import nakama.api.NakamaGrpc.NakamaFutureStub;
import nakama.api.NakamaOuterClass.Account;
import nakama.api.NakamaOuterClass.AccountDevice;
import nakama.api.NakamaOuterClass.AccountEmail;
import nakama.api.NakamaOuterClass.AddFriendsRequest;
import nakama.api.NakamaOuterClass.AuthenticateDeviceRequest;
import nakama.api.NakamaOuterClass.AuthenticateEmailRequest;
import nakama.api.NakamaOuterClass.BlockFriendsRequest;
import nakama.api.NakamaOuterClass.ChannelMessageList;
import nakama.api.NakamaOuterClass.CreateGroupRequest;
import nakama.api.NakamaOuterClass.DeleteFriendsRequest;
import nakama.api.NakamaOuterClass.DeleteGroupRequest;
import nakama.api.NakamaOuterClass.FriendList;
import nakama.api.NakamaOuterClass.GetUsersRequest;
import nakama.api.NakamaOuterClass.Group;
import nakama.api.NakamaOuterClass.GroupList;
import nakama.api.NakamaOuterClass.GroupUserList;
import nakama.api.NakamaOuterClass.JoinGroupRequest;
import nakama.api.NakamaOuterClass.KickGroupUsersRequest;
import nakama.api.NakamaOuterClass.LeaveGroupRequest;
import nakama.api.NakamaOuterClass.ListChannelMessagesRequest;
import nakama.api.NakamaOuterClass.ListFriendsRequest;
import nakama.api.NakamaOuterClass.ListGroupUsersRequest;
import nakama.api.NakamaOuterClass.ListGroupsRequest;
import nakama.api.NakamaOuterClass.ListNotificationsRequest;
import nakama.api.NakamaOuterClass.ListUserGroupsRequest;
import nakama.api.NakamaOuterClass.NotificationList;
import nakama.api.NakamaOuterClass.Session;
import nakama.api.NakamaOuterClass.SessionLogoutRequest;
import nakama.api.NakamaOuterClass.SessionRefreshRequest;
import nakama.api.NakamaOuterClass.UpdateAccountRequest;
import nakama.api.NakamaOuterClass.UserGroupList;
import okhttp3.HttpUrl;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;

/**
 * Does what Nakama's Java client does on a phone, call for call: the API in gRPC over one channel, the socket on the port of
 * HTTP. Arguments: the host, the port of gRPC, the port of HTTP, and the file of the server's certificate if there is TLS.
 */
public final class PhoneClient {
    private static final long WAIT_SECONDS = 20;
    private static final int DEADLINE_MS = 15_000;

    private final String host;
    private final int socketPort;
    private final SSLContext tls;
    private final TrustManagerFactory trust;
    private final ManagedChannel channel;
    private final NakamaFutureStub stub;

    private PhoneClient(String host, int port, int socketPort, String certificate) throws Exception {
        this.host = host;
        this.socketPort = socketPort;
        this.trust = certificate == null ? null : trusting(certificate);
        OkHttpChannelBuilder builder = OkHttpChannelBuilder.forAddress(host, port).userAgent("Heroic Labs Nakama Java");
        if (trust == null) {
            tls = null;
            builder.usePlaintext();
        } else {
            tls = SSLContext.getInstance("TLS");
            tls.init(null, trust.getTrustManagers(), null);
            builder.useTransportSecurity().sslSocketFactory(tls.getSocketFactory());
        }
        channel = builder.keepAliveTimeout(5, TimeUnit.SECONDS).build();
        stub = NakamaGrpc.newFutureStub(channel);
    }

    private static TrustManagerFactory trusting(String certificate) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream file = new FileInputStream(certificate)) {
            store.setCertificateEntry("server", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        return trust;
    }

    public static void main(String[] arguments) throws Exception {
        String certificate = arguments.length > 3 ? arguments[3] : null;
        PhoneClient client = new PhoneClient(
                arguments[0], Integer.parseInt(arguments[1]), Integer.parseInt(arguments[2]), certificate);
        client.run();
        client.channel.shutdown();
        check(client.channel.awaitTermination(WAIT_SECONDS, TimeUnit.SECONDS), "the channel ends");
        System.out.println("the phone client is content");
        // The pools of the socket's library would keep the program for a minute.
        System.exit(0);
    }

    /** A stub with these metadata, and with a deadline as the official client sets one. */
    private NakamaFutureStub with(String authorization) {
        Metadata metadata = new Metadata();
        metadata.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), authorization);
        return stub.withInterceptors(MetadataUtils.newAttachHeadersInterceptor(metadata))
                .withDeadlineAfter(DEADLINE_MS, TimeUnit.MILLISECONDS);
    }

    private NakamaFutureStub program() {
        return with("Basic " + Base64.getEncoder().encodeToString("defaultkey:".getBytes(StandardCharsets.UTF_8)));
    }

    private NakamaFutureStub as(Session session) {
        return with("Bearer " + session.getToken());
    }

    private void run() throws Exception {
        Session alice = device("device-of-alice", "alice");
        Session bob = device("device-of-bob", "bob");
        check(alice.getCreated() && !alice.getRefreshToken().isEmpty(), "a device signs in");
        accounts(alice, bob);
        friends(alice, bob);
        String group = groups(alice, bob);
        messages(alice, bob, group);
        get(as(alice).deleteGroup(DeleteGroupRequest.newBuilder().setGroupId(group).build()));
        refusals(alice);
        sessions(bob);
    }

    private Session device(String id, String username) throws Exception {
        AuthenticateDeviceRequest request = AuthenticateDeviceRequest.newBuilder()
                .setAccount(AccountDevice.newBuilder().setId(id).putVars("platform", "android"))
                .setCreate(BoolValue.of(true))
                .setUsername(username)
                .build();
        return get(program().authenticateDevice(request));
    }

    private void accounts(Session alice, Session bob) throws Exception {
        AccountEmail email = AccountEmail.newBuilder().setEmail("alice@example.org").setPassword("a good secret").build();
        get(as(alice).linkEmail(email));
        Session again = get(program().authenticateEmail(AuthenticateEmailRequest.newBuilder().setAccount(email).build()));
        check(!again.getCreated(), "an email signs in the same user");
        get(as(alice).updateAccount(UpdateAccountRequest.newBuilder()
                .setDisplayName(StringValue.of("Älice")).setLangTag(StringValue.of("de")).build()));
        Account account = get(as(again).getAccount(Empty.getDefaultInstance()));
        check(account.getUser().getDisplayName().equals("Älice"), "the account has its new name");
        check(account.getEmail().equals("alice@example.org") && account.getDevicesCount() == 1, "the account has both");
        check(account.getUser().getCreateTime().getSeconds() > 1_600_000_000, "the account has its time");
        int found = get(as(bob).getUsers(GetUsersRequest.newBuilder().addUsernames("alice").build())).getUsersCount();
        check(found == 1, "users find each other by name");
    }

    private void friends(Session alice, Session bob) throws Exception {
        get(as(alice).addFriends(AddFriendsRequest.newBuilder().addUsernames("bob").build()));
        ListFriendsRequest invited = ListFriendsRequest.newBuilder()
                .setState(Int32Value.of(2)).setLimit(Int32Value.of(10)).build();
        FriendList invitations = get(as(bob).listFriends(invited));
        check(invitations.getFriends(0).getUser().getUsername().equals("alice"), "bob is invited");
        get(as(bob).addFriends(AddFriendsRequest.newBuilder()
                .addIds(invitations.getFriends(0).getUser().getId()).build()));
        FriendList friends = get(as(alice).listFriends(ListFriendsRequest.getDefaultInstance()));
        check(friends.getFriends(0).getState().getValue() == 0, "they are friends");
        get(as(bob).blockFriends(BlockFriendsRequest.newBuilder().addUsernames("alice").build()));
        get(as(bob).deleteFriends(DeleteFriendsRequest.newBuilder().addUsernames("alice").build()));
        check(get(as(bob).listFriends(ListFriendsRequest.getDefaultInstance())).getFriendsCount() == 0, "nothing is left");
    }

    private String groups(Session alice, Session bob) throws Exception {
        Group group = get(as(alice).createGroup(CreateGroupRequest.newBuilder()
                .setName("readers").setDescription("of books").setOpen(true).build()));
        check(group.getOpen().getValue() && group.getEdgeCount() == 1, "a group begins");
        GroupList groups = get(as(bob).listGroups(ListGroupsRequest.newBuilder()
                .setName("read%").setLimit(Int32Value.of(10)).build()));
        check(groups.getGroupsCount() == 1, "the group is found");
        get(as(bob).joinGroup(JoinGroupRequest.newBuilder().setGroupId(group.getId()).build()));
        GroupUserList members = get(as(bob).listGroupUsers(ListGroupUsersRequest.newBuilder()
                .setGroupId(group.getId()).build()));
        check(members.getGroupUsersCount() == 2, "the group has two members");
        String bobId = members.getGroupUsers(1).getUser().getId();
        UserGroupList own = get(as(bob).listUserGroups(ListUserGroupsRequest.newBuilder().setUserId(bobId).build()));
        check(own.getUserGroups(0).getState().getValue() == 2, "bob is a member");
        get(as(alice).kickGroupUsers(KickGroupUsersRequest.newBuilder()
                .setGroupId(group.getId()).addUserIds(bobId).build()));
        get(as(bob).joinGroup(JoinGroupRequest.newBuilder().setGroupId(group.getId()).build()));
        return group.getId();
    }

    /** The socket carries chat, and gRPC lists what was said. */
    private void messages(Session alice, Session bob, String group) throws Exception {
        try (Socket socket = new Socket(bob)) {
            JsonObject target = new JsonObject();
            target.addProperty("target", group);
            target.addProperty("type", 3);
            target.addProperty("persistence", true);
            String channelId = socket.ask("channel_join", target).getAsJsonObject("channel").get("id").getAsString();
            JsonObject message = new JsonObject();
            message.addProperty("channel_id", channelId);
            message.addProperty("content", "{\"text\":\"from a phone\"}");
            socket.ask("channel_message_send", message);
            ChannelMessageList history = get(as(alice).listChannelMessages(ListChannelMessagesRequest.newBuilder()
                    .setChannelId(channelId).setLimit(Int32Value.of(1)).setForward(BoolValue.of(false)).build()));
            check(history.getMessages(0).getContent().equals("{\"text\": \"from a phone\"}")
                    || history.getMessages(0).getContent().equals("{\"text\":\"from a phone\"}"), "the message is listed");
            check(history.getMessages(0).getCode().getValue() == 0, "it is a chat message");
            check(!history.getNextCursor().isEmpty(), "there is an older page");
        }
        get(as(bob).leaveGroup(LeaveGroupRequest.newBuilder().setGroupId(group).build()));
        NotificationList notifications = get(as(bob).listNotifications(ListNotificationsRequest.newBuilder()
                .setLimit(Int32Value.of(10)).build()));
        check(!notifications.getCacheableCursor().isEmpty(), "notifications are listed");
    }

    private void refusals(Session alice) throws Exception {
        Status wrong = refused(with("Bearer nonsense").getAccount(Empty.getDefaultInstance()));
        check(wrong.getCode() == Status.Code.UNAUTHENTICATED && "token invalid".equals(wrong.getDescription()), wrong);
        Status none = refused(stub.getAccount(Empty.getDefaultInstance()));
        check(none.getCode() == Status.Code.UNAUTHENTICATED, none);
        Status malformed = refused(as(alice).joinGroup(JoinGroupRequest.newBuilder().setGroupId("x").build()));
        check(malformed.getCode() == Status.Code.INVALID_ARGUMENT, malformed);
        // The official client has more methods than this server.
        Status lacking = refused(other("ListMatches", alice));
        check(lacking.getCode() == Status.Code.UNIMPLEMENTED && lacking.getDescription() != null, lacking);
        Status function = refused(other("RpcFunc", alice));
        check(function.getCode() == Status.Code.NOT_FOUND, function);
        Status late = refused(as(alice).withDeadlineAfter(1, TimeUnit.NANOSECONDS).getAccount(Empty.getDefaultInstance()));
        check(late.getCode() == Status.Code.DEADLINE_EXCEEDED, late);
    }

    /** A call of a method that the schema does not have. */
    private ListenableFuture<Empty> other(String name, Session session) {
        MethodDescriptor<Empty, Empty> method = MethodDescriptor.<Empty, Empty>newBuilder()
                .setType(MethodDescriptor.MethodType.UNARY)
                .setFullMethodName("nakama.api.Nakama/" + name)
                .setRequestMarshaller(ProtoUtils.marshaller(Empty.getDefaultInstance()))
                .setResponseMarshaller(ProtoUtils.marshaller(Empty.getDefaultInstance()))
                .build();
        NakamaFutureStub caller = as(session);
        return ClientCalls.futureUnaryCall(
                caller.getChannel().newCall(method, caller.getCallOptions()), Empty.getDefaultInstance());
    }

    private void sessions(Session bob) throws Exception {
        Session renewed = get(program().sessionRefresh(SessionRefreshRequest.newBuilder()
                .setToken(bob.getRefreshToken()).build()));
        get(as(renewed).getAccount(Empty.getDefaultInstance()));
        get(as(renewed).sessionLogout(SessionLogoutRequest.newBuilder()
                .setToken(renewed.getToken()).setRefreshToken(renewed.getRefreshToken()).build()));
        Status loggedOut = refused(as(renewed).getAccount(Empty.getDefaultInstance()));
        check(loggedOut.getCode() == Status.Code.UNAUTHENTICATED, loggedOut);
    }

    private static <T> T get(ListenableFuture<T> future) throws Exception {
        return future.get(WAIT_SECONDS, TimeUnit.SECONDS);
    }

    private static Status refused(ListenableFuture<?> future) throws Exception {
        try {
            throw new AssertionError("this should be refused, and is answered with " + get(future));
        } catch (ExecutionException refusal) {
            return ((StatusRuntimeException) refusal.getCause()).getStatus();
        }
    }

    private static void check(boolean holds, Object what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    /** A socket as the official client opens it: JSON, with the token in the query. */
    private final class Socket extends WebSocketListener implements AutoCloseable {
        private final BlockingQueue<JsonObject> heard = new LinkedBlockingQueue<>();
        private final Gson gson = new Gson();
        private final WebSocket socket;
        private int asked;

        Socket(Session session) throws Exception {
            OkHttpClient.Builder http = new OkHttpClient.Builder().connectTimeout(WAIT_SECONDS, TimeUnit.SECONDS);
            if (tls != null) {
                http.sslSocketFactory(tls.getSocketFactory(), (javax.net.ssl.X509TrustManager) trust.getTrustManagers()[0]);
            }
            HttpUrl url = new HttpUrl.Builder()
                    .scheme(tls == null ? "http" : "https").host(host).port(socketPort).encodedPath("/ws")
                    .addQueryParameter("token", session.getToken())
                    .addQueryParameter("status", "true")
                    .build();
            socket = http.build().newWebSocket(new Request.Builder().url(url).build(), this);
        }

        /** The answer to a request. Events that come before it are passed over. */
        JsonObject ask(String kind, JsonObject request) throws Exception {
            String cid = Integer.toString(++asked);
            JsonObject envelope = new JsonObject();
            envelope.addProperty("cid", cid);
            envelope.add(kind, request);
            check(socket.send(gson.toJson(envelope)), "the socket sends");
            while (true) {
                JsonObject next = heard.poll(WAIT_SECONDS, TimeUnit.SECONDS);
                check(next != null, "an answer to " + kind);
                if (next.has("cid") && next.get("cid").getAsString().equals(cid)) {
                    check(!next.has("error"), next);
                    return next;
                }
            }
        }

        @Override
        public void onMessage(WebSocket socket, String text) {
            heard.add(gson.fromJson(text, JsonObject.class));
        }

        @Override
        public void onFailure(WebSocket socket, Throwable error, Response response) {
            JsonObject failure = new JsonObject();
            failure.addProperty("cid", Integer.toString(asked));
            failure.addProperty("error", error.toString());
            heard.add(failure);
        }

        @Override
        public void close() {
            socket.close(1000, null);
        }
    }
}
