#include "VoxkitConnection.h"

#include "Dom/JsonObject.h"
#include "HAL/PlatformTime.h"
#include "Serialization/JsonReader.h"
#include "Serialization/JsonSerializer.h"
#include "Serialization/JsonWriter.h"
#include "WebSocketsModule.h"

namespace
{
std::string ToUtf8(const FString& Text) { return std::string(TCHAR_TO_UTF8(*Text)); }

FString Field(const TSharedPtr<FJsonObject>& Raw, const TCHAR* Name)
{
	FString Value;
	Raw->TryGetStringField(Name, Value);
	return Value;
}

double Number(const TSharedPtr<FJsonObject>& Raw, const TCHAR* Name)
{
	double Value = 0;
	Raw->TryGetNumberField(Name, Value);
	return Value;
}

bool Flag(const TSharedPtr<FJsonObject>& Raw, const TCHAR* Name)
{
	bool Value = false;
	Raw->TryGetBoolField(Name, Value);
	return Value;
}

/** A message of the server; nothing for one that says nothing to a client. */
std::optional<voxkit::Event> Parse(const FString& Message)
{
	TSharedPtr<FJsonObject> Raw;
	if (!FJsonSerializer::Deserialize(TJsonReaderFactory<>::Create(Message), Raw) || !Raw.IsValid()) return std::nullopt;
	const FString Type = Field(Raw, TEXT("type"));
	voxkit::Event Event;
	if (Type == TEXT("Results"))
	{
		const TArray<TSharedPtr<FJsonValue>>* Alternatives = nullptr;
		const TSharedPtr<FJsonObject>* Channel = nullptr;
		if (!Raw->TryGetObjectField(TEXT("channel"), Channel)) return std::nullopt;
		if (!(*Channel)->TryGetArrayField(TEXT("alternatives"), Alternatives) || Alternatives->Num() == 0) return std::nullopt;
		const TSharedPtr<FJsonObject> Best = (*Alternatives)[0]->AsObject();
		Event.kind = voxkit::Kind::result;
		Event.text = ToUtf8(Field(Best, TEXT("transcript")));
		Event.confidence = Number(Best, TEXT("confidence"));
		Event.final = Flag(Raw, TEXT("is_final"));
		Event.speech_final = Flag(Raw, TEXT("speech_final"));
		Event.from_finalize = Flag(Raw, TEXT("from_finalize"));
		Event.start = Number(Raw, TEXT("start"));
		Event.duration = Number(Raw, TEXT("duration"));
		const TArray<TSharedPtr<FJsonValue>>* Words = nullptr;
		if (Best->TryGetArrayField(TEXT("words"), Words))
		{
			for (const TSharedPtr<FJsonValue>& Value : *Words)
			{
				const TSharedPtr<FJsonObject> Word = Value->AsObject();
				Event.words.push_back({ToUtf8(Field(Word, TEXT("word"))), Number(Word, TEXT("start")), Number(Word, TEXT("end")),
									   Number(Word, TEXT("confidence"))});
			}
		}
	}
	else if (Type == TEXT("Begin"))
	{
		Event.kind = voxkit::Kind::connected;
		Event.session = ToUtf8(Field(Raw, TEXT("request_id")));
	}
	else if (Type == TEXT("SpeechStarted"))
	{
		Event.kind = voxkit::Kind::speech_started;
		Event.start = Number(Raw, TEXT("timestamp"));
	}
	else if (Type == TEXT("ConfigureSuccess") || Type == TEXT("ConfigureFailure"))
	{
		Event.kind = voxkit::Kind::configured;
		Event.message = ToUtf8(Field(Raw, TEXT("description")));
	}
	else if (Type == TEXT("Metadata"))
	{
		Event.kind = voxkit::Kind::finished;
		Event.duration = Number(Raw, TEXT("duration"));
	}
	else if (Type == TEXT("Error"))
	{
		Event.kind = voxkit::Kind::error;
		Event.code = static_cast<int>(Number(Raw, TEXT("code")));
		Event.name = ToUtf8(Field(Raw, TEXT("variant")));
		Event.message = ToUtf8(Field(Raw, TEXT("message")));
		double Seconds = 0;
		if (Raw->TryGetNumberField(TEXT("retry_after"), Seconds)) Event.retry_after = Seconds;
	}
	else
	{
		return std::nullopt;
	}
	return Event;
}
} // namespace

FVoxkitConnection::FVoxkitConnection(voxkit::Options Options) : Session(MoveTemp(Options)) {}

FVoxkitConnection::~FVoxkitConnection() { Close(); }

void FVoxkitConnection::Configure(const TArray<FString>& Phrases)
{
	FString Message;
	const TSharedRef<TJsonWriter<>> Writer = TJsonWriterFactory<>::Create(&Message);
	std::vector<std::string> Plain;
	Writer->WriteObjectStart();
	Writer->WriteValue(TEXT("type"), FString(TEXT("Configure")));
	Writer->WriteArrayStart(TEXT("keyterms"));
	for (const FString& Phrase : Phrases)
	{
		Writer->WriteValue(Phrase);
		Plain.push_back(ToUtf8(Phrase));
	}
	Writer->WriteArrayEnd();
	Writer->WriteObjectEnd();
	Writer->Close();
	Session.configure(MoveTemp(Plain), ToUtf8(Message));
}

std::deque<voxkit::Event> FVoxkitConnection::Tick()
{
	const double Now = FPlatformTime::Seconds();
	Closed.Reset();
	if (!Socket.IsValid() && !Session.over() && Now >= Session.retry_at()) Open();
	if (Socket.IsValid() && !bAnswered && Now - Opened > Session.options().connect) Ended(1006, TEXT("timed out"));
	while (Socket.IsValid() && Socket->IsConnected())
	{
		const std::optional<voxkit::Session::Item> Item = Session.next(Now);
		if (!Item) break;
		if (Item->binary) Socket->Send(Item->data.data(), Item->data.size(), true);
		else Socket->Send(FString(UTF8_TO_TCHAR(Item->data.c_str())));
	}
	return Session.take();
}

void FVoxkitConnection::Open()
{
	TMap<FString, FString> Headers;
	if (!Session.options().token.empty())
	{
		Headers.Add(TEXT("Authorization"), FString(TEXT("Bearer ")) + UTF8_TO_TCHAR(Session.options().token.c_str()));
	}
	Opened = FPlatformTime::Seconds();
	bAnswered = false;
	Session.opened(Opened);
	const FString Address(UTF8_TO_TCHAR(Session.address().c_str()));
	Socket = FWebSocketsModule::Get().CreateWebSocket(Address, TArray<FString>(), Headers);
	Socket->OnMessage().AddSP(this, &FVoxkitConnection::Heard);
	Socket->OnConnectionError().AddSPLambda(this, [this](const FString& Error) { Ended(1006, Error); });
	Socket->OnClosed().AddSPLambda(this, [this](int32 Code, const FString& Reason, bool bClean) { Ended(Code, Reason); });
	Socket->Connect();
}

void FVoxkitConnection::Close()
{
	if (!Socket.IsValid()) return;
	Closed = MoveTemp(Socket);
	Socket.Reset();
	Closed->OnMessage().RemoveAll(this);
	Closed->OnConnectionError().RemoveAll(this);
	Closed->OnClosed().RemoveAll(this);
	Closed->Close();
}

void FVoxkitConnection::Heard(const FString& Message)
{
	bAnswered = true;
	if (std::optional<voxkit::Event> Event = Parse(Message)) Session.heard(MoveTemp(*Event), FPlatformTime::Seconds());
}

void FVoxkitConnection::Ended(int32 Code, const FString& Reason)
{
	Close();
	Session.closed(Code > 0 ? Code : 1006, ToUtf8(Reason), FPlatformTime::Seconds());
}
