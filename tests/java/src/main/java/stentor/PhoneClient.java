package stentor;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.common.util.concurrent.Futures;
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
import nakama.api.Api.Notification;
import nakama.api.NakamaGrpc;
import nakama.api.NakamaGrpc.NakamaFutureStub;
import nakama.api.NakamaOuterClass.Account;
import nakama.api.NakamaOuterClass.AccountCustom;
import nakama.api.NakamaOuterClass.AccountDevice;
import nakama.api.NakamaOuterClass.AccountEmail;
import nakama.api.NakamaOuterClass.AddFriendsRequest;
import nakama.api.NakamaOuterClass.AddGroupUsersRequest;
import nakama.api.NakamaOuterClass.AuthenticateCustomRequest;
import nakama.api.NakamaOuterClass.AuthenticateDeviceRequest;
import nakama.api.NakamaOuterClass.AuthenticateEmailRequest;
import nakama.api.NakamaOuterClass.BanGroupUsersRequest;
import nakama.api.NakamaOuterClass.BlockFriendsRequest;
import nakama.api.NakamaOuterClass.ChannelMessageList;
import nakama.api.NakamaOuterClass.CreateGroupRequest;
import nakama.api.NakamaOuterClass.DeleteFriendsRequest;
import nakama.api.NakamaOuterClass.DeleteGroupRequest;
import nakama.api.NakamaOuterClass.DeleteNotificationsRequest;
import nakama.api.NakamaOuterClass.DeleteStorageObjectId;
import nakama.api.NakamaOuterClass.DeleteStorageObjectsRequest;
import nakama.api.NakamaOuterClass.DemoteGroupUsersRequest;
import nakama.api.NakamaOuterClass.Event;
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
import nakama.api.NakamaOuterClass.ListStorageObjectsRequest;
import nakama.api.NakamaOuterClass.ListUserGroupsRequest;
import nakama.api.NakamaOuterClass.NotificationList;
import nakama.api.NakamaOuterClass.PromoteGroupUsersRequest;
import nakama.api.NakamaOuterClass.ReadStorageObjectId;
import nakama.api.NakamaOuterClass.ReadStorageObjectsRequest;
import nakama.api.NakamaOuterClass.Session;
import nakama.api.NakamaOuterClass.SessionLogoutRequest;
import nakama.api.NakamaOuterClass.SessionRefreshRequest;
import nakama.api.NakamaOuterClass.StorageObjectAcks;
import nakama.api.NakamaOuterClass.StorageObjectList;
import nakama.api.NakamaOuterClass.StorageObjects;
import nakama.api.NakamaOuterClass.UpdateAccountRequest;
import nakama.api.NakamaOuterClass.UpdateGroupRequest;
import nakama.api.NakamaOuterClass.UserGroupList;
import nakama.api.NakamaOuterClass.WriteStorageObject;
import nakama.api.NakamaOuterClass.WriteStorageObjectsRequest;
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
        roles(alice, bob, group);
        get(as(alice).deleteGroup(DeleteGroupRequest.newBuilder().setGroupId(group).build()));
        notifications(bob);
        objects(alice, bob);
        refusals(alice);
        sessions(bob);
        waysToSignIn();
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

    /** What the owner of a group does with a member, who has left it before. */
    private void roles(Session alice, Session bob, String group) throws Exception {
        String bobId = id(bob);
        get(as(alice).updateGroup(UpdateGroupRequest.newBuilder()
                .setGroupId(group).setDescription(StringValue.of("of many books")).build()));
        get(as(alice).addGroupUsers(AddGroupUsersRequest.newBuilder().setGroupId(group).addUserIds(bobId).build()));
        check(role(bob, group) == 2, "bob was added");
        get(as(alice).promoteGroupUsers(PromoteGroupUsersRequest.newBuilder().setGroupId(group).addUserIds(bobId).build()));
        check(role(bob, group) == 1, "bob is an admin");
        get(as(alice).demoteGroupUsers(DemoteGroupUsersRequest.newBuilder().setGroupId(group).addUserIds(bobId).build()));
        check(role(bob, group) == 2, "bob is a member again");
        get(as(alice).banGroupUsers(BanGroupUsersRequest.newBuilder().setGroupId(group).addUserIds(bobId).build()));
        // Who is banned is not told so.
        get(as(bob).joinGroup(JoinGroupRequest.newBuilder().setGroupId(group).build()));
        UserGroupList left = get(as(bob).listUserGroups(ListUserGroupsRequest.newBuilder().setUserId(bobId).build()));
        check(left.getUserGroupsCount() == 0, left);
    }

    private String id(Session session) throws Exception {
        return get(as(session).getAccount(Empty.getDefaultInstance())).getUser().getId();
    }

    private int role(Session session, String group) throws Exception {
        UserGroupList groups = get(as(session).listUserGroups(ListUserGroupsRequest.newBuilder().setUserId(id(session)).build()));
        check(groups.getUserGroups(0).getGroup().getId().equals(group), groups);
        return groups.getUserGroups(0).getState().getValue();
    }

    private void notifications(Session bob) throws Exception {
        ListNotificationsRequest all = ListNotificationsRequest.newBuilder().setLimit(Int32Value.of(100)).build();
        DeleteNotificationsRequest.Builder delete = DeleteNotificationsRequest.newBuilder();
        for (Notification notification : get(as(bob).listNotifications(all)).getNotificationsList()) {
            delete.addIds(notification.getId());
        }
        check(delete.getIdsCount() > 0, "bob was told of friends and groups");
        get(as(bob).deleteNotifications(delete.build()));
        check(get(as(bob).listNotifications(all)).getNotificationsCount() == 0, "they are deleted");
        get(as(bob).event(Event.newBuilder().setName("opened").putProperties("screen", "lobby").build()));
    }

    private void objects(Session alice, Session bob) throws Exception {
        WriteStorageObject.Builder object = WriteStorageObject.newBuilder()
                .setCollection("saves").setKey("public").setValue("{\"level\":1}")
                .setPermissionRead(Int32Value.of(2)).setPermissionWrite(Int32Value.of(1));
        WriteStorageObject own = WriteStorageObject.newBuilder().setCollection("saves").setKey("own").setValue("{}").build();
        StorageObjectAcks acks = get(as(bob).writeStorageObjects(
                WriteStorageObjectsRequest.newBuilder().addObjects(object).addObjects(own).build()));
        check(acks.getAcksCount() == 2 && acks.getAcks(0).getUserId().equals(id(bob)), acks);
        ReadStorageObjectsRequest.Builder ids = ReadStorageObjectsRequest.newBuilder();
        for (String key : new String[] {"public", "own"}) {
            ids.addObjectIds(ReadStorageObjectId.newBuilder().setCollection("saves").setKey(key).setUserId(id(bob)));
        }
        StorageObjects read = get(as(alice).readStorageObjects(ids.build()));
        check(read.getObjectsCount() == 1 && read.getObjects(0).getValue().equals("{\"level\":1}"), read);
        check(get(as(bob).readStorageObjects(ids.build())).getObjectsCount() == 2, "bob reads both");
        ListStorageObjectsRequest list = ListStorageObjectsRequest.newBuilder()
                .setCollection("saves").setUserId(id(bob)).setLimit(Int32Value.of(10)).build();
        StorageObjectList listed = get(as(alice).listStorageObjects(list));
        check(listed.getObjectsCount() == 1 && listed.getObjects(0).getKey().equals("public"), listed);
        Status stale = refused(as(bob).writeStorageObjects(
                WriteStorageObjectsRequest.newBuilder().addObjects(object.setVersion("*")).build()));
        check(stale.getCode() == Status.Code.INVALID_ARGUMENT, stale);
        get(as(bob).deleteStorageObjects(DeleteStorageObjectsRequest.newBuilder().addObjectIds(DeleteStorageObjectId.newBuilder()
                .setCollection("saves").setKey("public").setVersion(acks.getAcks(0).getVersion())).build()));
        check(get(as(alice).listStorageObjects(list)).getObjectsCount() == 0, "it is deleted");
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
        // The official client renews a session beside a call, not before it.
        ListenableFuture<Account> beside = as(bob).getAccount(Empty.getDefaultInstance());
        ListenableFuture<Session> renewing = program().sessionRefresh(SessionRefreshRequest.newBuilder()
                .setToken(bob.getRefreshToken()).build());
        get(Futures.allAsList(renewing, beside));
        Session renewed = get(renewing);
        get(as(renewed).getAccount(Empty.getDefaultInstance()));
        get(as(renewed).sessionLogout(SessionLogoutRequest.newBuilder()
                .setToken(renewed.getToken()).setRefreshToken(renewed.getRefreshToken()).build()));
        Status loggedOut = refused(as(renewed).getAccount(Empty.getDefaultInstance()));
        check(loggedOut.getCode() == Status.Code.UNAUTHENTICATED, loggedOut);
    }

    /** A user of a custom id gets a device, loses it, and deletes the account. */
    private void waysToSignIn() throws Exception {
        AuthenticateCustomRequest.Builder request = AuthenticateCustomRequest.newBuilder()
                .setAccount(AccountCustom.newBuilder().setId("custom-of-carol"));
        Session carol = get(program().authenticateCustom(request.setUsername("carol").build()));
        check(carol.getCreated(), "a custom id signs in");
        AccountDevice phone = AccountDevice.newBuilder().setId("device-of-carol").build();
        get(as(carol).linkDevice(phone));
        check(!device("device-of-carol", "carol").getCreated(), "a linked device signs in the same user");
        get(as(carol).unlinkDevice(phone));
        Status last = refused(as(carol).unlinkCustom(AccountCustom.newBuilder().setId("custom-of-carol").build()));
        check(last.getCode() == Status.Code.PERMISSION_DENIED, last);
        get(as(carol).deleteAccount(Empty.getDefaultInstance()));
        Status gone = refused(program().authenticateCustom(request.setCreate(BoolValue.of(false)).build()));
        check(gone.getCode() == Status.Code.NOT_FOUND, gone);
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
